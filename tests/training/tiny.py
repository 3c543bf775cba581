"""A tiny tokenizer, trunk and stream of batches for the tests of training."""

import functools
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.config import (
    Config,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    SSMConfig,
    TokenizerConfig,
    TrainingConfig,
)
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.training.loop import Data, InitialState, Programs, Run, fit
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.placement import place
from mvar_jax.training.state import create_state
from mvar_jax.training.step import (
    Frozen,
    make_trunk_evaluation,
    make_trunk_step,
)
from mvar_jax.training.throughput import StepCost
from mvar_jax.training.tokenizer_step import make_tokenizer_evaluation, make_tokenizer_step

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
    training=TrainingConfig(steps=6, log_every=1, save_every=3, ema_decay=0.5),
    sampling=SamplingConfig(top_k=0),
)
BITS = TokenizerConfig(
    quantizer="bsq",
    image_size=(8, 8),
    scales=((1, 1), (2, 2)),
    code_channels=4,
    base_channels=8,
    channel_multipliers=(1,),
    blocks_per_level=1,
    stem_stride=4,
    norm_groups=4,
    attention=False,
)
TOKENIZER = VQTokenizer(CONFIG.tokenizer)
TRUNK = build_trunk(CONFIG)


def images(index):
    generator = np.random.default_rng(int(index))
    image = generator.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    return {"image": image, "label": np.int32(index % 3)}


def dataset(count=40, repeats=None):
    return grain.MapDataset.range(count).seed(0).shuffle().repeat(repeats).map(images)


def batched(records):
    """Batches on the device, as `GlobalBatches` gives them; they hold their position too."""
    return records.to_iter_dataset().batch(BATCH).map(jax.device_put)


def train_batches():
    return batched(dataset())


def eval_batches(count=6):
    return batched(dataset(count, 1))


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


def frozen():
    return Frozen(tokenizer_params())


def trunk_params():
    return random_params(TRUNK, *example_inputs(TRUNK))


@functools.cache
def optimizer():
    return make_optimizer(CONFIG.optimizer, 20, BATCH)


# Steps are made once, so that all tests of a process share what they compile.


@functools.cache
def trunk_step():
    return make_trunk_step(TRUNK, TOKENIZER, optimizer(), config=CONFIG.training, seed=7)


@functools.cache
def trunk_evaluation():
    return make_trunk_evaluation(TRUNK, TOKENIZER)


def trunk_state():
    return place(create_state(trunk_params(), optimizer(), CONFIG.training.ema_decay))


@functools.cache
def tokenizer_step():
    return make_tokenizer_step(TOKENIZER, optimizer(), CONFIG.training)


@functools.cache
def tokenizer_evaluation():
    return make_tokenizer_evaluation(TOKENIZER)


def tokenizer_state():
    return place(create_state(tokenizer_params(), optimizer(), CONFIG.training.ema_decay))


def fit_trunk(directory: Path, **data):
    """Trains the tiny trunk in a directory; `data` replaces batches or validation."""
    programs = Programs(
        functools.partial(trunk_step(), frozen=frozen()),
        functools.partial(trunk_evaluation(), frozen=frozen()),
    )
    return fit_in("trunk", directory, programs, InitialState(trunk_state(), trunk_state), **data)


def fit_tokenizer(directory: Path, **data):
    """The same for the tiny tokenizer."""
    programs = Programs(tokenizer_step(), tokenizer_evaluation())
    initial = InitialState(tokenizer_state(), tokenizer_state)
    return fit_in("tokenizer", directory, programs, initial, **data)


def fit_in(label, directory, programs, initial, **data):
    """The same with any programs and initial state."""
    run = Run(label, directory, CONFIG.training, CONFIG.training.steps, StepCost(BATCH))
    data = {"batches": train_batches(), "validation": eval_batches()} | data
    return fit(run, programs, Data(**data), initial=initial)
