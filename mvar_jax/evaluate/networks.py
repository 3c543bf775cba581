"""The flags that name networks to measure images by."""

from collections.abc import Sequence

from absl import flags

from mvar_jax.checks import check
from mvar_jax.convert.network_files import (
    BACKBONES,
    load_efficientnet,
    load_inception,
    load_lpips,
)
from mvar_jax.files import user_path
from mvar_jax.networks.features import FeatureNetwork
from mvar_jax.networks.lpips import PerceptualNetwork

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
    loaders = {INCEPTION: lambda: load_inception(user_path(file)), LITE: load_efficientnet}
    return [loaders[name]() for name in dict.fromkeys(names)]


def describe_networks(networks: Sequence[FeatureNetwork]) -> dict[str, dict[str, str]]:
    """What a report says of networks: the SHA-256 of their weights, and how they resize."""
    return {one.name: {"weights": one.weights, "resize": one.resize} for one in networks}


def define_lpips() -> None:
    """Defines the flags of `get_lpips`."""
    flags.DEFINE_enum("lpips", None, list(BACKBONES), "Network of LPIPS.")
    flags.DEFINE_string("classifier", None, "For it, torchvision's file of VGG16 or AlexNet.")
    flags.DEFINE_string("heads", None, "For it, LPIPS' file of that network, version 0.1.")


def get_lpips() -> PerceptualNetwork | None:
    """LPIPS where the flags ask for it. Raises ValueError for what is wrong with its files."""
    values = flags.FLAGS
    given = [value is not None for value in (values.lpips, values.classifier, values.heads)]
    check(
        all(given) or not any(given),
        "expected --lpips with --classifier, as vgg16-397923af.pth of torchvision, and --heads, as "
        "weights/v0.1/vgg.pth of the package lpips; or none of the three.",
    )
    if values.lpips is None:
        return None
    return load_lpips(values.lpips, user_path(values.classifier), user_path(values.heads))
