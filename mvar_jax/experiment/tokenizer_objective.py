"""What a tokenizer is trained for, from a config and what is installed."""

import sys
from dataclasses import replace

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mvar_jax.array_types import Params
from mvar_jax.checks import check, install_command
from mvar_jax.config import Config
from mvar_jax.convert.network_files import has_lpips, load_packaged_lpips
from mvar_jax.models.checksum import checksum
from mvar_jax.networks.lpips import PerceptualNetwork, check_size
from mvar_jax.training.adversary import Adversary
from mvar_jax.training.tokenizer_step import Objective
from mvar_jax.workdir import Workdir


def find_lpips(
    config: Config, given: PerceptualNetwork | None, begun: Config | None = None
) -> tuple[Config, PerceptualNetwork | None]:
    """The network of LPIPS for a config that weighs it, `given` or the package's, and the config.

    Where it is optional and there are no weights, or the run was `begun` without it, the config is
    returned without it, and a line on stderr says so. Raises ValueError for weights of another
    network or that nothing needs, where there are none, and for images that are too small.
    """
    loss = config.tokenizer_loss
    if not loss.lpips:
        check(
            given is None,
            f"tokenizer_loss.lpips: got 0 with the weights of {given and given.name}, expected "
            "more than 0 to train with them; set it, or leave them out.",
        )
        return config, None
    without = given is None and loss.lpips_optional
    if without and begun is not None and not begun.tokenizer_loss.lpips:
        return _without_lpips(config, "goes on without LPIPS, as it was begun")
    if without and not has_lpips():
        why = "trains without LPIPS, whose weights are in no package that is installed; for them, "
        return _without_lpips(config, why + install_command("metrics"))
    check(
        given is not None or has_lpips(),
        f"tokenizer_loss.lpips: got {loss.lpips}, whose weights are in no package that is "
        f"installed, expected them or 0; {install_command('metrics')}.",
    )
    network = load_packaged_lpips(loss.lpips_network) if given is None else given
    check(
        network.backbone.name == loss.lpips_network,
        f"tokenizer_loss.lpips_network: got {loss.lpips_network!r} with the weights of "
        f"{network.backbone.name!r}; name the network that they are of.",
    )
    check_size(network.backbone, config.tokenizer.image_size)
    return config, network


def _without_lpips(config: Config, why: str) -> tuple[Config, None]:
    """The config without LPIPS, which a line on stderr says."""
    if jax.process_index() == 0:
        sys.stderr.write(f"tokenizer: {why}\n")
    return replace(config, tokenizer_loss=replace(config.tokenizer_loss, lpips=0.0)), None


def make_objective(config: Config, network: PerceptualNetwork | None, steps: int) -> Objective:
    """The losses of a run of so many steps.

    Raises ValueError for losses that would start at its end.
    """
    loss, backbone = config.tokenizer_loss, None if network is None else network.backbone
    first = round(loss.lpips_start * steps)
    check(
        backbone is None or first < steps,
        f"tokenizer_loss.lpips_start: got {loss.lpips_start}, which is step {first} of {steps}, "
        "expected one before the end; start earlier, or train for longer.",
    )
    adversary = Adversary.of(config, steps)
    return Objective(loss, backbone, adversary, config.tokenizer_frozen, first)


def lpips_checksum(network: PerceptualNetwork | None) -> str:
    """The name of the weights of LPIPS, empty without it."""
    return "" if network is None else checksum(network.params)


def check_same_lpips(workdir: Workdir, found: str) -> None:
    """Raises ValueError if a tokenizer was trained so far by other weights of LPIPS."""
    record = workdir.record() if workdir.is_trained else None
    check(
        record is None or record.perceptual == found,
        f"{workdir.path}: was begun with other weights of LPIPS (their checksum begins with "
        f"{record and record.perceptual[:8]!r}, now {found[:8]!r}); give it the same files, or use "
        "another --workdir.",
    )


def place_lpips(network: PerceptualNetwork | None, mesh: Mesh) -> Params | None:
    """The parameters of LPIPS, replicated over a mesh; None without it."""
    if network is None:
        return None
    return jax.device_put(network.params, NamedSharding(mesh, PartitionSpec()))
