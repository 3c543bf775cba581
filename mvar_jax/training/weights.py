"""The parameters of a run's trunk, adapter and tokenizer: shapes, initialisation and loading."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Params, PyTree, in_32_bits
from mvar_jax.checks import check
from mvar_jax.config import Config, ModelConfig, TokenizerConfig
from mvar_jax.data.imagenet_names import imagenet_names
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.models.adapter import draw_adapter
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.models.narrowing import narrowed
from mvar_jax.ops.noise import make_key
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.parameters import load_params
from mvar_jax.training.placement import create_placed, with_shardings
from mvar_jax.training.shared import load_shared
from mvar_jax.workdir import Workdir


@in_32_bits
def init_trunk(config: Config) -> Params:
    """Initial parameters of a trunk, sharded over the ambient mesh if there is one."""
    return create_placed(partial(_draw_trunk, config))


@in_32_bits
def init_narrowed_trunk(config: Config) -> Params:
    """The same, as sampling holds them; see `models.narrowing`."""
    return create_placed(partial(_draw_narrowed_trunk, config))


@in_32_bits
def init_adapter(config: Config) -> Params:
    """Initial parameters of an adapter of a trunk; see `models.adapter.draw_adapter`."""
    return create_placed(partial(_draw_adapter, config))


@in_32_bits
def init_tokenizer(config: Config) -> Params:
    """The same of a tokenizer."""
    return create_placed(partial(_draw_tokenizer, config))


@in_32_bits
def trunk_shapes(config: Config) -> PyTree:
    """The shapes of a trunk's parameters."""
    return jax.eval_shape(partial(_draw_trunk, config))


@in_32_bits
def adapter_shapes(config: Config) -> PyTree:
    """The same of an adapter of a trunk."""
    return jax.eval_shape(partial(_draw_adapter, config))


@in_32_bits
def tokenizer_shapes(config: Config) -> PyTree:
    """The same of a tokenizer."""
    return jax.eval_shape(partial(_draw_tokenizer, config))


@in_32_bits
def narrowed_trunk_shapes(config: Config) -> PyTree:
    """The shapes of a trunk's parameters as sampling holds them; see `models.narrowing`."""
    return jax.eval_shape(partial(_draw_narrowed_trunk, config))


def load_trunk(
    config: Config, workdir: Workdir, *, verify: bool = False, narrow: bool = False
) -> Params:
    """The parameters of a run's trunk that are sampled from, sharded over the ambient mesh if any.

    `narrow` as sampling holds them, cast while they are read. Raises ValueError as `load_params`
    does, or `load_shared` for a shared model.
    """
    shapes = narrowed_trunk_shapes(config) if narrow else trunk_shapes(config)
    return _load(workdir, shapes, verify=verify)


def load_adapter(config: Config, workdir: Workdir, *, verify: bool = False) -> Params:
    """The same of an adapter; the config is that of its run."""
    shapes = with_shardings(adapter_shapes(config))
    return load_params(workdir.checkpoints, shapes, verify=verify)


def with_tokenizer(config: Config, tokenizer: TokenizerConfig) -> Config:
    """The config of a trunk with another tokenizer of the same scales and kind of tokens.

    Raises ValueError when scales, quantizer, vocabulary, code channels or patch differ.
    """
    for name in ("scales", "quantizer", "vocabulary", "code_channels", "patch"):
        ours, other = getattr(config.tokenizer, name), getattr(tokenizer, name)
        check(
            ours == other,
            f"the trunk is made for tokenizer.{name}={ours}, but the tokenizer has {other}; they "
            "must be of one kind (scales of imported weights are set by --schedule).",
        )
    return replace(config, tokenizer=tokenizer)


def load_tokenizer(config: Config, workdir: Workdir, *, verify: bool = False) -> Params:
    """The trained tokenizer of a run.

    Raises ValueError if its settings are not the config's, and as `load_trunk` does.
    """
    workdir.check_tokenizer_settings(config)
    return _load(workdir.tokenizer, tokenizer_shapes(config), verify=verify)


def check_learned_from(trunk: Workdir, tokenizer: Callable[[], Params], place: Path) -> None:
    """Raises ValueError if a trunk was trained on the tokens of another tokenizer.

    `tokenizer` gives the parameters of the one to use, and is called only if the trunk has a record
    to compare them with; `place` is that tokenizer's directory. With other weights every shape
    fits, but tokens mean something else; only the decoder may be another. Imported trunks have no
    record of their tokenizer and pass.
    """
    record = trunk.record()
    if record is None or not trunk.is_trained:
        return
    check(
        record.tokenizer in tokenizer_names(tokenizer()),
        f"{place}: holds other weights of a tokenizer than {trunk.path} learned the tokens of; "
        "put those back, or train another trunk on these (python -m mvar_jax.train "
        f"--tokenizer={place.parent} and a new --workdir).",
    )


def model_classes(model: ModelConfig, workdir: Workdir) -> tuple[str, ...]:
    """The names of a model's classes, none where it is one of texts.

    Where none were saved, they are those of ImageNet if these are as many, or else indices.
    """
    if model.condition == "text":
        return ()
    official = () if workdir.names_classes else imagenet_names()
    named = len(official) == model.num_classes
    return official if named else workdir.class_names(model.num_classes)


def _load(workdir: Workdir, shapes: PyTree, *, verify: bool) -> Params:
    """The parameters of one directory, the trunk's or the tokenizer's."""
    expected = with_shardings(shapes)
    if workdir.is_shared:
        return load_shared(workdir.weights, expected, verify=verify)
    return load_params(workdir.checkpoints, expected, verify=verify)


def _draw_trunk(config: Config) -> Params:
    trunk = build_trunk(config)
    return trunk.init(make_key(config.seed), *example_inputs(trunk))["params"]


def _draw_narrowed_trunk(config: Config) -> Params:
    return narrowed(_draw_trunk(config), config.model.compute_dtype)


def _draw_adapter(config: Config) -> Params:
    return draw_adapter(trunk_shapes(config), config.adapter, make_key(config.seed))


def _draw_tokenizer(config: Config) -> Params:
    images = jnp.zeros((1, *config.tokenizer.image_size, 3))
    return build_tokenizer(config.tokenizer).init(make_key(config.seed), images)["params"]
