"""Working directories of a tiny trunk and of adapters of it, for tests."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import path_name
from mvar_jax.config import AdapterConfig
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.models.checksum import checksum
from mvar_jax.training.parameters import save_params
from mvar_jax.training.weights import adapter_shapes
from mvar_jax.workdir import RunRecord, Workdir
from tests.training.tiny import CONFIG, random_params, tokenizer_params

RANK = 2
NAMES = ("cat", "dog", "fox")
BASE = replace(CONFIG, model=replace(CONFIG.model, pattern=("history",)))


def write_base(path, config=BASE):
    """A whole model, as one that was shared."""
    workdir, tokenizer, trunk = Workdir.of(path), tokenizer_params(), build_trunk(config)
    for part, params in (
        (workdir.tokenizer, tokenizer),
        (workdir, random_params(trunk, *example_inputs(trunk))),
    ):
        part.save_config(config)
        save_params(part.checkpoints, _leaves(params))
    workdir.save_record(RunRecord(0, checksum(tokenizer)))
    workdir.save_class_names(NAMES)
    return workdir


def adapter_config(classes, rank=RANK):
    """The config of an adapter of the base, for so many classes."""
    model = replace(BASE.model, num_classes=classes)
    return replace(BASE, model=model, adapter=AdapterConfig(rank=rank, alpha=3.0))


def write_adapter(path, base, names, weights, *, seed=0):
    """An adapter of random numbers, of a base whose weights are of that checksum."""
    workdir, config = Workdir.of(path), adapter_config(len(names))
    generator = np.random.default_rng(seed)
    shapes = adapter_shapes(config)

    def draw(leaf):
        return jnp.asarray(generator.normal(0, 0.3, leaf.shape), jnp.float32)

    params = jax.tree.map(draw, shapes)
    workdir.save_config(config)
    record = RunRecord(9, base.record().tokenizer, base=str(base.path), base_checksum=weights)
    workdir.save_record(record)
    workdir.save_class_names(names)
    save_params(workdir.checkpoints, _leaves(params))
    return workdir, params


def _leaves(params):
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(path_name(path).split("/")), np.asarray(leaf)
