"""Configs as trees of plain values: ConfigDicts for overrides, JSON beside checkpoints."""

import dataclasses
import json
import numbers
import typing
from typing import Any

from ml_collections import ConfigDict

from mvar_jax.checks import check, first_line
from mvar_jax.config import Config
from mvar_jax.files import parse_json


def to_config_dict(config: Any) -> ConfigDict:
    """A dataclass as a ConfigDict of the same tree, for `configs/*.py` and overrides."""
    values = {
        item.name: to_config_dict(value) if dataclasses.is_dataclass(value) else value
        for item in dataclasses.fields(config)
        for value in [getattr(config, item.name)]
    }
    return ConfigDict(values)


def from_config_dict(values: "ConfigDict | dict", kind: type = Config, path: str = "config") -> Any:
    """The dataclass `kind` from a ConfigDict or a plain dict of the same tree.

    Raises ValueError for an unknown key, a value of the wrong type, or values that do not fit
    together; `path` is what errors call the tree.
    """
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name in values:
        check(
            name in hints,
            f"{path}: unknown key {name!r}; {kind.__name__} has {', '.join(sorted(hints))}.",
        )
        arguments[name] = _convert(values[name], hints[name], f"{path}.{name}")
    try:
        return kind(**arguments)
    except ValueError as error:
        # Of groups of one kind, such as training and tokenizer_training, errors name the first.
        own, (group, dot, rest) = path.rpartition(".")[2], str(error).partition(".")
        raise ValueError(f"{own}{dot}{rest}" if own.endswith(f"_{group}") else str(error)) from None


def _convert(value: Any, hint: Any, path: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        check(hasattr(value, "keys"), f"{path}: got {value!r}, expected a group of settings.")
        return from_config_dict(value, hint, path)
    if typing.get_origin(hint) is tuple:
        inner, *others = typing.get_args(hint)
        check(isinstance(value, (tuple, list)), f"{path}: got {value!r}, expected a list.")
        check(
            others == [...] or len(value) == 1 + len(others),
            f"{path}: got {value!r}, expected {1 + len(others)} values.",
        )
        return tuple(_convert(item, inner, path) for item in value)
    kinds = {int: numbers.Integral, float: numbers.Real}  # NumPy's numbers too
    right = isinstance(value, kinds.get(hint, hint)) and (hint is bool or value is not True)
    check(
        right and (hint is bool or value is not False),
        f"{path}: got {value!r}, expected a value of type {hint.__name__}.",
    )
    try:
        return hint(value)
    except OverflowError:
        raise ValueError(
            f"{path}: got a whole number that no float holds, expected a smaller one."
        ) from None


def to_json(config: Config) -> str:
    """The whole config as JSON text, as saved beside checkpoints."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str | bytes) -> Config:
    """The config that `to_json` wrote. Raises ValueError when the text is not such a config."""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(
            f"config: not valid JSON ({first_line(error)}), expected what was saved of a config."
        ) from None
    check(isinstance(values, dict), "config: got JSON that is not an object.")
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("remat"), bool):  # as it was before 0.1
        model["remat"] = "full" if model["remat"] else "none"
    return from_config_dict(values)
