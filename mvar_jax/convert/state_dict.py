"""Official state dicts as lists: every parameter and buffer, in order, with shape and dtype."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.names import Entry, write_tensor
from mvar_jax.convert.t5_names import t5_entries
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule
from mvar_jax.text import T5Config


@dataclass(frozen=True)
class Item:
    """A tensor of a state dict: a parameter, computed from our arrays, or a buffer."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[Params], np.ndarray]
    is_parameter: bool


def trunk_state(trunk: Trunk, chunks: int | None = None) -> dict[str, Item]:
    """The official state dict of a trunk, by name; for `chunks` see `trunk_entries`."""
    schedule, width = trunk.schedule, (trunk.config.width,)
    total, scales = schedule.total, len(schedule)
    ssm = trunk.config.kinds[0].ssm
    levels = _buffer((1, total), np.int64, partial(_levels, schedule))
    mask = _buffer((1, 1, total, total), np.float32, partial(_mask, schedule, history=not ssm))
    after = {"pos_1LC": {"lvl_1L": levels, "attn_bias_for_masking": mask}}
    entries = trunk_entries(trunk, chunks)
    for name in (entry.official for entry in entries if entry.official.endswith(".v_bias")):
        module = name.removesuffix(".v_bias")
        zeros = {f"{module}.zero_k_bias": _buffer(width, np.float32, partial(np.zeros, width))}
        # Tokens of the scales, by which M-VAR's code cuts a training sequence; not their sides.
        lengths = _buffer((scales,), np.int32, lambda: np.array(schedule.lengths))
        after[name] = zeros | ({f"{module}.patch_nums": lengths} if ssm else {})
    return _state(entries, after)


def tokenizer_state(config: TokenizerConfig) -> dict[str, Item]:
    """The official state dict of a tokenizer, by name; its counts of code usage are zero."""
    if config.quantizer == "bsq":
        weights = _buffer((config.code_channels,), np.int64, partial(_powers, config))
        # One module has two names.
        masks = {"quantizer.lfq.mask": weights, "quantize.lfq.mask": weights}
        return _state(tokenizer_entries(config), {"decoder.conv_out.conv.bias": masks})
    shape = (len(config.schedule), config.vocabulary)
    usage = _buffer(shape, np.float32, partial(np.zeros, shape))
    after = {"decoder.conv_out.bias": {"quantize.ema_vocab_hit_SV": usage}}
    return _state(tokenizer_entries(config), after)


def t5_state(config: T5Config) -> dict[str, Item]:
    """The official state dict of a T5 v1.1 encoder, by name, without the embedding's alias."""
    return plain_state(t5_entries(config))


def plain_state(entries: Iterable[Entry]) -> dict[str, Item]:
    """A state dict of parameters alone, those of the entries, by name."""
    return _state(entries, {})


def make_tensors(state: Mapping[str, Item], params: Params) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of a state dict with its name, one after another, from our parameters."""
    for name, item in state.items():
        yield name, item.make(params)


def _state(entries: Iterable[Entry], after: Mapping[str, Mapping[str, Item]]) -> dict[str, Item]:
    """Parameters by name, each followed by the buffers that come `after` it."""
    parts: dict[str, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.official, []).append(entry)
    state: dict[str, Item] = {}
    for name, rows in parts.items():
        make = partial(write_tensor, rows)
        state[name] = Item(rows[0].official_shape, np.dtype(np.float32), make, True)
        state.update(after.get(name, {}))
    return state


def _buffer(shape: tuple[int, ...], dtype: type, make: Callable[[], np.ndarray]) -> Item:
    return Item(shape, np.dtype(dtype), lambda _: make().reshape(shape).astype(dtype), False)


def _levels(schedule: ScaleSchedule) -> np.ndarray:
    return np.repeat(np.arange(len(schedule)), schedule.lengths)


def _mask(schedule: ScaleSchedule, history: bool) -> np.ndarray:
    """0 where a query may see a key, else -inf: its scale, with `history` the ones before too."""
    levels = _levels(schedule)
    queries, keys = levels[:, None], levels[None]
    return np.where(queries >= keys if history else queries == keys, 0.0, -np.inf)


def _powers(config: TokenizerConfig) -> np.ndarray:
    """What every bit is worth, the first most; the 64th overflows int64, as in the original."""
    exponents = np.arange(config.code_channels, dtype=np.uint64)[::-1]
    return np.left_shift(np.uint64(1), exponents).astype(np.int64)
