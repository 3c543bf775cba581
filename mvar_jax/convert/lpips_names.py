"""Names and shapes of the tensors of LPIPS: torchvision's classifiers and the heads' files."""

from collections.abc import Iterator

from mvar_jax.convert.names import CONV2D, Entry
from mvar_jax.networks.lpips import Backbone


def backbone_entries(backbone: Backbone) -> Iterator[Entry]:
    """The entries of a classifier's convolutions as torchvision names them."""
    for one in (convolution for depth in backbone.depths for convolution in depth):
        name, path, side = f"features.{one.index}", f"conv{one.index}", one.kernel
        official = (one.outputs, one.inputs, side, side)
        yield Entry(f"{name}.weight", official, (path, "kernel"), one.shape, CONV2D)
        yield Entry(f"{name}.bias", (one.outputs,), (path, "bias"), (one.outputs,))


def head_entries(backbone: Backbone) -> Iterator[Entry]:
    """The entries of the weights by channel at every depth, as the file of the heads has them."""
    for depth, convolutions in enumerate(backbone.depths):
        channels = convolutions[-1].outputs
        name, path = f"lin{depth}.model.1.weight", (f"head{depth}", "weight")
        yield Entry(name, (1, channels, 1, 1), path, (channels,))
