"""Official weights into a working directory."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvar_jax.checks import check, check_given
from mvar_jax.config import Config, SamplingConfig, TokenizerConfig, infinity_schedule
from mvar_jax.config.infinity import SAMPLING, tokenizer_settings
from mvar_jax.convert.checks import check_tensors
from mvar_jax.convert.find_infinity import find_chunks
from mvar_jax.convert.find_model import TOKENIZERS, StateDict, find_state_dict
from mvar_jax.convert.find_tokenizer import find_tokenizer
from mvar_jax.convert.find_trunk import find_schedule, find_trunk
from mvar_jax.convert.names import Entry, read_arrays
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.state_dict import tokenizer_state, trunk_state
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.files import draft_folder, is_whole, publish
from mvar_jax.models import Trunk
from mvar_jax.scales import VAR_256, ScaleSchedule
from mvar_jax.training.parameters import save_params
from mvar_jax.training.weights import with_tokenizer
from mvar_jax.workdir import Workdir

# Of the published models whose files do not hold them.
INFINITY_1M = infinity_schedule("1", "1M")
SCHEDULES = {"vqvae": VAR_256, "bsqvae": INFINITY_1M, "infinity": INFINITY_1M}


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

    The file is a .pth or .safetensors, or a folder of shards with their index, of a VAR, an M-VAR
    or an Infinity, whose trunk goes to `out`, or of a tokenizer (VAR's VQVAE, or Infinity's of
    bits), which goes to `out.tokenizer`. The files of tokenizers and of Infinity hold no
    `schedule`: by default it is that of the other part in `out`, or VAR's at 256 or Infinity's at
    1024 pixels. Returns in words what was found. Raises ValueError, with nothing written, for a
    file that is no such model, for parts that do not fit, and where `out` has that part already.
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
    other = out.tokenizer.config().tokenizer if out.tokenizer.is_trained else None
    if state.architecture in SCHEDULES:
        found = schedule or (SCHEDULES[state.architecture] if other is None else other.schedule)
    else:
        found = _schedule_of(state, schedule)
    shapes = _shapes(state)
    trunk, chunks = find_trunk(state.architecture, shapes, found), find_chunks(shapes)
    check_tensors(state.tensors, trunk_state(trunk, chunks))
    config = _trunk_config(trunk)
    if other is not None:
        config = with_tokenizer(config, other)
    summary = f"{state.architecture} of {_trunk_summary(trunk)}"
    if state.averaged:
        summary += ", the average of a training checkpoint"
    return Part(".", trunk_entries(trunk, chunks), {".": config}, summary)


def _schedule_of(state: StateDict, given: ScaleSchedule | None) -> ScaleSchedule:
    """The schedule that `lvl_1L` tells; without it the one given."""
    levels = state.tensors.get("lvl_1L")
    found = check_given(
        given if levels is None else find_schedule(np.asarray(levels)),
        "the tensor lvl_1L is missing, which tells the scales; give --schedule",
    )
    check(
        given in (None, found),
        f"its lvl_1L is that of the schedule {_sides(found)}; leave --schedule out",
    )
    return found


def _trunk_config(trunk: Trunk) -> Config:
    """The config of a trunk, with the official tokenizer and sampling."""
    schedule = trunk.schedule
    if trunk.config.condition == "text":
        tokenizer = TokenizerConfig(**tokenizer_settings(trunk.code_channels, schedule))
        sampling = SamplingConfig(**SAMPLING)
        return Config(tokenizer=tokenizer, model=trunk.config, sampling=sampling)
    height, width = schedule.last
    tokenizer = TokenizerConfig(
        image_size=(16 * height, 16 * width),
        scales=schedule.sizes,
        vocabulary=trunk.logits,
        code_channels=trunk.code_channels,
    )
    return replace(_config(tokenizer), model=trunk.config)


def _trunk_summary(trunk: Trunk) -> str:
    model = trunk.config
    of = (
        f"{trunk.code_channels} bits a token, texts of {model.text.max_length} tokens with "
        f"{model.text.channels} channels"
        if model.condition == "text"
        else f"{model.num_classes} classes"
    )
    return (
        f"depth {model.depth}, width {model.width}, {model.heads} heads, {of}, scales "
        f"{_sides(trunk.schedule)}"
    )


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
            not is_whole(out.path / name),
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
                publish(item, path / item.name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            publish(draft, path)


def _shapes(state: StateDict) -> Shapes:
    return Shapes({name: tensor.shape for name, tensor in state.tensors.items()})


def _sides(schedule: ScaleSchedule) -> str:
    return ",".join(str(height) for height, _ in schedule.sizes)
