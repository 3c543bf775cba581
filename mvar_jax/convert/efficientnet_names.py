"""Names and shapes of the tensors of EfficientNet-lite0 in its PyTorch file."""

from collections.abc import Iterator

from mvar_jax.convert.inception_names import norm_entries
from mvar_jax.convert.names import CONV2D, LINEAR, Entry
from mvar_jax.networks.efficientnet import BLOCKS, CLASSES, FEATURES, STEM


def efficientnet_entries() -> Iterator[Entry]:
    """The entries of all tensors, in the official order; each convolution has a batch norm."""
    yield from _unit_entries("_conv_stem", "_bn0", ("stem",), (STEM, 3, 3, 3))
    for i, block in enumerate(BLOCKS):
        start, path, side = f"_blocks.{i}.", f"block{i}", block.kernel
        if block.expansion > 1:
            wide = (block.inner, block.inputs, 1, 1)
            yield from _unit_entries(f"{start}_expand_conv", f"{start}_bn0", (path, "expand"), wide)
        alone = (block.inner, 1, side, side)
        yield from _unit_entries(
            f"{start}_depthwise_conv", f"{start}_bn1", (path, "depthwise"), alone
        )
        narrow = (block.outputs, block.inner, 1, 1)
        yield from _unit_entries(f"{start}_project_conv", f"{start}_bn2", (path, "project"), narrow)
    last = (FEATURES, BLOCKS[-1].outputs, 1, 1)
    yield from _unit_entries("_conv_head", "_bn1", ("head",), last)
    head = (CLASSES, FEATURES)
    yield Entry("_fc.weight", head, ("fc", "kernel"), head[::-1], LINEAR)
    yield Entry("_fc.bias", head[:1], ("fc", "bias"), head[:1])


def _unit_entries(name: str, norm: str, path: tuple[str, ...], shape: tuple[int, ...]):
    """A convolution of a shape (out, in / groups, height, width), and its batch norm."""
    outputs, inputs, *kernel = shape
    yield Entry(f"{name}.weight", shape, (*path, "kernel"), (*kernel, inputs, outputs), CONV2D)
    yield from norm_entries(norm, path, outputs)
