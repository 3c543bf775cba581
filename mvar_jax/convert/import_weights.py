"""Official weights into a working directory."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvar_jax.checks import check, check_given
from mvar_jax.config import Config, SamplingConfig, TokenizerConfig, infinity_schedule
from mvar_jax.convert.checks import check_tensors
from mvar_jax.convert.find_tokenizer import find_tokenizer
from mvar_jax.convert.find_trunk import find_schedule, find_trunk
from mvar_jax.convert.names import Entry, read_arrays
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.state_dict import tokenizer_state, trunk_state
from mvar_jax.convert.tensor_file import TOKENIZERS, StateDict, find_state_dict
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.files import draft_folder
from mvar_jax.scales import VAR_256, ScaleSchedule
from mvar_jax.training.parameters import save_params
from mvar_jax.training.weights import with_tokenizer
from mvar_jax.workdir import Workdir

SCHEDULES = {
    "vqvae": VAR_256,
    "bsqvae": infinity_schedule("1", "1M"),
}  # of the published tokenizers


@dataclass(frozen=True)
class Part:
    """What will be written: a trunk or a tokenizer, and the configs of both as far as known."""

    folder: str  # inside the working directory, "." for the trunk's
    entries: list[Entry]
    configs: dict[str, Config]  # by folder
    summary: str


def import_weights(
    checkpoint: Path,
    out: Workdir,
    architecture: str | None = None,
    *,
    schedule: ScaleSchedule | None = None,
) -> str:
    """Makes a working directory, or its missing part, from a file of official weights.

    The file is a .pth or .safetensors of a VAR or an M-VAR, whose trunk goes to `out`, or of a
    tokenizer (VAR's VQVAE, or Infinity's of bits), which goes to `out.tokenizer`. A tokenizer's
    file does not hold its `schedule`: by default it is that of the trunk in `out`, or VAR's at 256
    or Infinity's at 1024 pixels. Returns in words what was
    found. Raises ValueError, with nothing written, for a file that is no such model, for parts
    that do not fit, and where `out` has that part already.
    """
    state = find_state_dict(checkpoint, architecture)
    plan = _plan_tokenizer if state.architecture in TOKENIZERS else _plan_trunk
    _check_room(out, ("tokenizer",) if plan is _plan_tokenizer else ("config.json", "checkpoints"))
    try:
        part = plan(state, out, schedule)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {str(error).rstrip('.')}.") from None
    _write(part, state, out.path)
    return part.summary


def _plan_trunk(state: StateDict, out: Workdir, schedule: ScaleSchedule | None) -> Part:
    tensors, levels = state.tensors, state.tensors.get("lvl_1L")
    found = check_given(
        schedule if levels is None else find_schedule(np.asarray(levels)),
        "the tensor lvl_1L is missing, which tells the scales; give --schedule",
    )
    check(
        schedule in (None, found),
        f"its lvl_1L is that of the schedule {_sides(found)}; leave --schedule out",
    )
    trunk = find_trunk(state.architecture, _shapes(state), found)
    check_tensors(tensors, trunk_state(trunk))
    height, width = found.last
    tokenizer = TokenizerConfig(
        image_size=(16 * height, 16 * width),
        scales=found.sizes,
        vocabulary=trunk.logits,
        code_channels=trunk.code_channels,
    )
    config = replace(_config(tokenizer), model=trunk.config)
    if out.tokenizer.is_trained:
        config = with_tokenizer(config, out.tokenizer.config().tokenizer)
    model = trunk.config
    summary = (
        f"{state.architecture} of depth {model.depth}, width {model.width}, {model.heads} heads, "
        f"{model.num_classes} classes, scales {_sides(found)}"
    )
    return Part(".", trunk_entries(trunk), {".": config}, summary)


def _plan_tokenizer(state: StateDict, out: Workdir, schedule: ScaleSchedule | None) -> Part:
    trunk = out.config() if (out.path / "config.json").is_file() else None
    if schedule is None:
        own = SCHEDULES[state.architecture]
        schedule = own if trunk is None else trunk.tokenizer.schedule
    tokenizer = find_tokenizer(_shapes(state), schedule)
    check_tensors(state.tensors, tokenizer_state(tokenizer))
    configs = {"tokenizer": _config(tokenizer)}
    if trunk is not None:
        configs["."] = with_tokenizer(trunk, tokenizer)
    tokens = (
        f"{tokenizer.token_channels} bits a token"
        if tokenizer.quantizer == "bsq"
        else f"{tokenizer.vocabulary} codes of {tokenizer.code_channels} channels"
    )
    summary = (
        f"{state.architecture} of {tokenizer.base_channels} channels, {tokens}, scales "
        f"{_sides(schedule)}"
    )
    return Part("tokenizer", tokenizer_entries(tokenizer), configs, summary)


def _config(tokenizer: TokenizerConfig) -> Config:
    top_k = min(SamplingConfig.top_k, tokenizer.vocabulary)
    return Config(tokenizer=tokenizer, sampling=SamplingConfig(top_k=top_k))


def _check_room(out: Workdir, names: tuple[str, ...]) -> None:
    check(not out.path.is_file(), f"--out: {out.path} is a file, expected a directory.")
    for name in names:
        check(
            not (out.path / name).exists(),
            f"--out: {out.path} has its own {name} already; use another directory.",
        )


def _write(part: Part, state: StateDict, path: Path) -> None:
    """Writes a draft in `path`, or in the nearest folder above it, and moves it when complete."""
    existing = next(folder for folder in (path, *path.parents) if folder.is_dir())
    with draft_folder(existing / path.name) as draft:
        for folder, config in part.configs.items():
            Workdir(draft / folder).save_config(config)
        arrays = read_arrays(part.entries, state.tensors, np.dtype(np.float32))
        save_params(Workdir(draft / part.folder).checkpoints, arrays)
        if path.is_dir():
            for item in sorted(draft.iterdir()):
                item.replace(path / item.name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(path)


def _shapes(state: StateDict) -> Shapes:
    return Shapes({name: tensor.shape for name, tensor in state.tensors.items()})


def _sides(schedule: ScaleSchedule) -> str:
    return ",".join(str(height) for height, _ in schedule.sizes)
