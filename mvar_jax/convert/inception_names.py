"""Names and shapes of the tensors of the Inception network of 2015 in PyTorch files."""

from collections.abc import Iterator

from mvar_jax.convert.names import CONV2D, LINEAR, Entry
from mvar_jax.networks.inception import CLASSES, FEATURES

Unit = tuple[str, int, int, tuple[int, int]]  # name, channels in and out, kernel

ONE, THREE, FIVE = (1, 1), (3, 3), (5, 5)
WIDE, TALL = (1, 7), (7, 1)  # kernels by height and width


def inception_entries() -> Iterator[Entry]:
    """The entries of all tensors, in the official order; each convolution has a batch norm."""
    for unit in _units():
        yield from norm_unit_entries(*unit)
    head = (CLASSES, FEATURES)
    yield Entry("fc.weight", head, ("fc", "kernel"), head[::-1], LINEAR)
    yield Entry("fc.bias", head[:1], ("fc", "bias"), head[:1])


def norm_unit_entries(name: str, inputs: int, outputs: int, kernel: tuple[int, int]):
    """The entries of a convolution without bias and of its batch norm with running statistics."""
    path = tuple(name.split("."))
    official, ours = (outputs, inputs, *kernel), (*kernel, inputs, outputs)
    yield Entry(f"{name}.conv.weight", official, (*path, "kernel"), ours, CONV2D)
    yield from norm_entries(f"{name}.bn", path, outputs)


def norm_entries(name: str, path: tuple[str, ...], channels: int) -> Iterator[Entry]:
    """The entries of a batch norm, which becomes the `norm` beside the kernel at `path`."""
    for last, own in (
        ("weight", "scale"),
        ("bias", "shift"),
        ("running_mean", "mean"),
        ("running_var", "variance"),
    ):
        yield Entry(f"{name}.{last}", (channels,), (*path, "norm", own), (channels,))


def _units() -> Iterator[Unit]:
    yield "Conv2d_1a_3x3", 3, 32, THREE
    yield "Conv2d_2a_3x3", 32, 32, THREE
    yield "Conv2d_2b_3x3", 32, 64, THREE
    yield "Conv2d_3b_1x1", 64, 80, ONE
    yield "Conv2d_4a_3x3", 80, 192, THREE
    for letter, inputs, pooled in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
        yield from _block_a(f"Mixed_5{letter}", inputs, pooled)
    yield "Mixed_6a.branch3x3", 288, 384, THREE
    yield from _double("Mixed_6a.branch3x3dbl", 288)
    for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        yield from _block_c(f"Mixed_6{letter}", inner)
    yield from _path("Mixed_7a.branch3x3", 768, ((192, ONE), (320, THREE)))
    yield from _path(
        "Mixed_7a.branch7x7x3", 768, ((192, ONE), (192, WIDE), (192, TALL), (192, THREE))
    )
    yield from _block_e("Mixed_7b", 1280)
    yield from _block_e("Mixed_7c", 2048)


def _path(start: str, inputs: int, steps: tuple[tuple[int, tuple[int, int]], ...]):
    """Units one after another, numbered from 1, by their channels and kernels."""
    for i, (outputs, kernel) in enumerate(steps):
        yield f"{start}_{i + 1}", inputs, outputs, kernel
        inputs = outputs


def _double(start: str, inputs: int):
    yield from _path(start, inputs, ((64, ONE), (96, THREE), (96, THREE)))


def _block_a(name: str, inputs: int, pooled: int) -> Iterator[Unit]:
    yield f"{name}.branch1x1", inputs, 64, ONE
    yield from _path(f"{name}.branch5x5", inputs, ((48, ONE), (64, FIVE)))
    yield from _double(f"{name}.branch3x3dbl", inputs)
    yield f"{name}.branch_pool", inputs, pooled, ONE


def _block_c(name: str, inner: int) -> Iterator[Unit]:
    yield f"{name}.branch1x1", 768, 192, ONE
    yield from _path(f"{name}.branch7x7", 768, ((inner, ONE), (inner, WIDE), (192, TALL)))
    steps = ((inner, ONE), (inner, TALL), (inner, WIDE), (inner, TALL), (192, WIDE))
    yield from _path(f"{name}.branch7x7dbl", 768, steps)
    yield f"{name}.branch_pool", 768, 192, ONE


def _block_e(name: str, inputs: int) -> Iterator[Unit]:
    yield f"{name}.branch1x1", inputs, 320, ONE
    yield f"{name}.branch3x3_1", inputs, 384, ONE
    yield f"{name}.branch3x3_2a", 384, 384, (1, 3)
    yield f"{name}.branch3x3_2b", 384, 384, (3, 1)
    yield from _path(f"{name}.branch3x3dbl", inputs, ((448, ONE), (384, THREE)))
    yield f"{name}.branch3x3dbl_3a", 384, 384, (1, 3)
    yield f"{name}.branch3x3dbl_3b", 384, 384, (3, 1)
    yield f"{name}.branch_pool", inputs, 192, ONE
