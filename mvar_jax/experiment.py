"""The two trainings of an experiment, from a config and a working directory."""

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mvar_jax.config import Config, check
from mvar_jax.data.pipeline import eval_batches, train_batches
from mvar_jax.data.source import load_source
from mvar_jax.models import Trunk, build_trunk
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.training.checkpoint import load_params
from mvar_jax.training.loop import Outcome, fit
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import create_state
from mvar_jax.training.step import (
    make_tokenizer_evaluation,
    make_tokenizer_step,
    make_trunk_evaluation,
    make_trunk_step,
)
from mvar_jax.typing import Params
from mvar_jax.workdir import Workdir


def train_tokenizer(config: Config, workdir: Workdir) -> Outcome:
    """Trains the tokenizer in `workdir.tokenizer`, or goes on with it.

    Raises ValueError for bad data, another config than the run was begun with, and damaged
    checkpoints.
    """
    source = load_source(config.data.name, config.data.train_split, config.data.directory)
    batches, validation = _data(config)
    steps = config.tokenizer_training.total_steps(len(source), config.batch_size)
    tokenizer = VQTokenizer(config.tokenizer)
    optimizer = make_optimizer(config.tokenizer_optimizer, steps, config.batch_size)
    workdir.tokenizer.claim(config)
    params = jax.jit(tokenizer.init)(jax.random.key(config.seed), _images(config))["params"]
    return fit(
        "tokenizer",
        create_state(params, optimizer, config.tokenizer_training.ema_decay),
        make_tokenizer_step(tokenizer, optimizer, config.tokenizer_training),
        make_tokenizer_evaluation(tokenizer),
        batches,
        validation,
        config.tokenizer_training,
        steps,
        workdir.tokenizer.path,
    )


def train_trunk(config: Config, workdir: Workdir, init: Workdir | None = None) -> Outcome:
    """Trains the trunk in `workdir` on the tokens of its tokenizer, or goes on with it.

    With `init`, a new run starts from that run's trunk instead of from chance. Raises
    ValueError for bad data, a missing or other tokenizer, another config than the run was begun
    with, and damaged checkpoints.
    """
    source = load_source(config.data.name, config.data.train_split, config.data.directory)
    check(
        source.num_classes == config.model.num_classes,
        f"model.num_classes: got {config.model.num_classes}, but {config.data.name} has "
        f"{source.num_classes} classes; set --config.model.num_classes={source.num_classes}.",
    )
    batches, validation = _data(config)
    steps = config.training.total_steps(len(source), config.batch_size)
    tokenizer, trunk = VQTokenizer(config.tokenizer), build_trunk(config)
    tokenizer_params = _tokenizer_params(config, workdir)
    params = init_trunk(trunk, config.seed) if init is None else _inherit(config, init)
    optimizer = make_optimizer(config.optimizer, steps, config.batch_size)
    workdir.claim(config)
    workdir.save_class_names(source.class_names)
    return fit(
        "trunk",
        create_state(params, optimizer, config.training.ema_decay),
        make_trunk_step(trunk, tokenizer, optimizer, config.training, config.seed),
        make_trunk_evaluation(trunk, tokenizer),
        batches,
        validation,
        config.training,
        steps,
        workdir.path,
        frozen=(tokenizer_params,),
    )


def init_trunk(trunk: Trunk, seed: int) -> Params:
    """Parameters of a trunk at the start of training."""
    labels = jnp.zeros((1,), jnp.int32)
    length = trunk.schedule.total - trunk.schedule.lengths[0]
    inputs = jnp.zeros((1, length, trunk.code_channels))
    return jax.jit(trunk.init)(jax.random.key(seed), labels, inputs)["params"]


def load_trunk(config: Config, workdir: Workdir) -> Params:
    """The trained trunk of a run, as it is sampled from."""
    expected = jax.eval_shape(lambda: init_trunk(build_trunk(config), 0))
    return load_params(workdir.checkpoints, expected)


def load_tokenizer(config: Config, workdir: Workdir) -> Params:
    """The trained tokenizer of a run. Raises ValueError unless it is the config's."""
    saved = workdir.tokenizer.config().tokenizer
    check(
        saved == config.tokenizer,
        f"{workdir.tokenizer.path}: holds a tokenizer of other settings than the config; use the "
        f"config that it was trained with, or another --workdir.",
    )
    tokenizer = VQTokenizer(config.tokenizer)
    expected = jax.eval_shape(tokenizer.init, jax.random.key(0), _images(config))["params"]
    return load_params(workdir.tokenizer.checkpoints, expected)


def _tokenizer_params(config: Config, workdir: Workdir) -> Params:
    if workdir.tokenizer.is_trained:
        return load_tokenizer(config, workdir)
    check(
        config.allow_untrained_tokenizer,
        f"{workdir.tokenizer.path}: holds no trained tokenizer; train one with "
        "python -m mvar_jax.train_tokenizer and the same --config and --workdir, or name another "
        "run's by --tokenizer.",
    )
    logging.warning("No trained tokenizer: the trunk learns the tokens of a random one.")
    tokenizer = VQTokenizer(config.tokenizer)
    return jax.jit(tokenizer.init)(jax.random.key(config.seed), _images(config))["params"]


def _inherit(config: Config, init: Workdir) -> Params:
    """Another run's trunk; of another number of classes, only "no class" keeps its embedding."""
    saved = init.config()
    params = load_trunk(saved, init)
    if saved.model.num_classes != config.model.num_classes:
        fresh = init_trunk(build_trunk(config), config.seed)["class_embedding"]
        none = params["class_embedding"][-1]
        params = {**params, "class_embedding": fresh.at[-1].set(none)}
    return params


def _data(config: Config):
    size, batch_size = config.tokenizer.image_size, config.batch_size
    batches = train_batches(config.data, size, batch_size, config.seed)
    return batches, eval_batches(config.data, size, batch_size, config.data.validation_split)


def _images(config: Config) -> np.ndarray:
    return np.zeros((1, *config.tokenizer.image_size, 3), np.float32)
