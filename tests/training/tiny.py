"""A tiny tokenizer, trunk and stream of batches for the tests of training."""

import functools
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.config import Config, ModelConfig, OptimizerConfig, SamplingConfig, SSMConfig, TokenizerConfig
from mvar_jax.config import TrainingConfig as Training
from mvar_jax.models import build_trunk
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.training.loop import fit
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import create_state
from mvar_jax.training.step import (
    make_tokenizer_evaluation,
    make_tokenizer_step,
    make_trunk_evaluation,
    make_trunk_step,
)

BATCH = 4
CONFIG = Config(
    batch_size=BATCH,
    tokenizer=TokenizerConfig(
        image_size=(8, 8),
        scales=((1, 1), (2, 2)),
        vocabulary=16,
        code_channels=4,
        base_channels=8,
        channel_multipliers=(1,),
        blocks_per_level=1,
        stem_stride=4,
        norm_groups=4,
        attention=False,
        shared_convolutions=1,
    ),
    model=ModelConfig(
        num_classes=3,
        depth=2,
        width=16,
        heads=2,
        drop_path_rate=0.2,
        ssm=SSMConfig(state_size=4, head_dim=8, chunk=8),
    ),
    optimizer=OptimizerConfig(learning_rate=0.1),
    sampling=SamplingConfig(top_k=0),
)
TOKENIZER = VQTokenizer(CONFIG.tokenizer)
TRUNK = build_trunk(CONFIG)


def images(index):
    generator = np.random.default_rng(int(index))
    image = generator.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    return {"image": image, "label": np.int32(index % 3)}


def dataset(count=40, repeats=None):
    return grain.MapDataset.range(count).seed(0).shuffle().repeat(repeats).map(images)


def train_batches():
    return dataset().to_iter_dataset().batch(BATCH)


def eval_batches(count=6):
    return dataset(count, 1).to_iter_dataset().batch(BATCH)


def batch():
    return next(iter(train_batches()))


def random_params(module, *inputs):
    """Parameters of a module's shapes, without compiling its `init`."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    generator = np.random.default_rng(0)

    def draw(shape):
        return jnp.asarray(0.3 * generator.standard_normal(shape.shape, dtype=np.float32))

    return jax.tree.map(draw, shapes)


def tokenizer_params():
    return random_params(TOKENIZER, jnp.zeros((1, 8, 8, 3)))


def trunk_params():
    return random_params(TRUNK, jnp.zeros(1, jnp.int32), jnp.zeros((1, 4, 4)))


@functools.cache
def optimizer():
    return make_optimizer(CONFIG.optimizer, 20, BATCH)


@functools.cache
def trunk_step(training=Training()):
    return make_trunk_step(TRUNK, TOKENIZER, optimizer(), training, seed=7)


@functools.cache
def trunk_evaluation():
    return make_trunk_evaluation(TRUNK, TOKENIZER)


def trunk_state(training=Training()):
    return create_state(trunk_params(), optimizer(), training.ema_decay)


def fit_trunk(directory: Path, training: Training, **changes):
    """Trains the tiny trunk in a directory; `changes` replace arguments of `fit`."""
    arguments = {
        "label": "trunk",
        "state": trunk_state(training),
        "train_step": trunk_step(training),
        "evaluate": trunk_evaluation(),
        "batches": train_batches(),
        "validation": eval_batches(),
        "config": training,
        "total_steps": training.steps,
        "directory": directory,
        "frozen": (tokenizer_params(),),
    }
    return fit(**arguments | changes)


def fit_tokenizer(directory: Path, training: Training):
    """Trains the tiny tokenizer in a directory."""
    adamw = optimizer()
    return fit(
        "tokenizer",
        create_state(tokenizer_params(), adamw, training.ema_decay),
        make_tokenizer_step(TOKENIZER, adamw, training),
        make_tokenizer_evaluation(TOKENIZER),
        train_batches(),
        eval_batches(),
        training,
        training.steps,
        directory,
    )
