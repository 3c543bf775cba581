"""What a trunk's training starts from: another run's trunk, or one that an adapter changes."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from mvar_jax.array_types import Params, at_path, path_name
from mvar_jax.checks import check
from mvar_jax.config import Config, ModelConfig
from mvar_jax.models.adapter import class_rows
from mvar_jax.models.checksum import checksum
from mvar_jax.training.adapted import check_adapts, check_is_whole, find_base
from mvar_jax.training.weights import init_trunk, load_trunk, model_classes, trunk_shapes
from mvar_jax.workdir import Workdir

# Settings of a model that an adapter may choose: its classes, and what training and speed differ
# by. All others say what the trunk computes.
OF_TRAINING = frozenset(
    (
        *("num_classes", "drop_path_rate", "class_drop_rate", "init"),
        *("compute_dtype", "kernels", "remat", "scan"),
    )
)


class Base(NamedTuple):
    """A trunk that an adapter is trained of, its classes those of the adapter's data."""

    params: Params
    checksum: str  # of the trunk as it was, with its own classes


def find_start(config: Config, workdir: Workdir, base: Workdir | None) -> Workdir | None:
    """The working directory of the trunk to adapt: that of the flag, or of the run; None for none.

    Raises ValueError where the config and the flag `--base` do not go together, and where the
    trunk there is not the one that the config describes.
    """
    if config.adapter.rank:
        check(
            base is not None or workdir.is_trained,
            f"adapter.rank: got {config.adapter.rank} without a trunk to adapt; name its working "
            "directory by --base.",
        )
        found = find_base(workdir, base)
        check_is_whole(found)
        _check_same_model(found.config().model, config.model, found)
        return found
    check(
        base is None,
        f"--base: got {base and base.path} without an adapter; set --config.adapter.rank=16, or "
        "train all weights from there by --init.",
    )
    return None


def load_base(base: Workdir, workdir: Workdir, names: tuple[str, ...]) -> Base:
    """The trunk to adapt, with embeddings of the classes `names` alone.

    A class that the base knows by this name has its embedding, a new one the mean of all. Raises
    ValueError where the run in `workdir` began with other weights.
    """
    own = base.config()
    params = load_trunk(own, base)
    name = checksum(params)
    if workdir.is_trained:
        check_adapts(workdir, name, base)
    if own.model.condition == "text":
        return Base(params, name)
    known = model_classes(own.model, base)
    rows = [known.index(each) if each in known else None for each in names]
    return Base(params | {"class_embedding": class_rows(params["class_embedding"], rows)}, name)


def _check_same_model(own: ModelConfig, wanted: ModelConfig, base: Workdir) -> None:
    for field in dataclasses.fields(own):
        old, new = getattr(own, field.name), getattr(wanted, field.name)
        check(
            old == new or field.name in OF_TRAINING,
            f"--base: {base.path} has a trunk of model.{field.name}={old!r}, but the config has "
            f"{new!r}; set config.model and config.tokenizer as in its config.json.",
        )


def inherit_trunk(config: Config, init: Workdir, class_names: tuple[str, ...]) -> Params:
    """Another run's trunk as the start of a new one.

    "No class" keeps its embedding, and so does every class whose name that run knew too. Raises
    ValueError when it is of another architecture, or an adapter.
    """
    check_is_whole(init)
    params = load_trunk(init.config(), init)
    expected = trunk_shapes(config)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        name = path_name(path)
        found = at_path(params, path)
        check(
            name == "class_embedding" or getattr(found, "shape", None) == leaf.shape,
            f"--init: {init.path} has {name} of shape {getattr(found, 'shape', None)}, expected "
            f"{leaf.shape}; set config.model and config.tokenizer as in its config.json.",
        )
    if config.model.condition == "text":  # which has no classes
        return params
    before = init.class_names(init.config().model.num_classes)
    unnamed = not init.names_classes and len(before) == len(class_names)  # as imported weights
    if before != class_names and not unnamed:
        rows = {name: row for row, name in enumerate((*before, None))}  # None: no class
        kept = [(new, rows[name]) for new, name in enumerate((*class_names, None)) if name in rows]
        new, old = map(np.array, zip(*kept))
        fresh = init_trunk(config)["class_embedding"]
        params["class_embedding"] = fresh.at[new].set(params["class_embedding"][old])
    return params
