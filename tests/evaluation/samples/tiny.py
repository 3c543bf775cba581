"""Tiny models, and samples of them; as a program it writes those of one: `FOLDER COUNT BATCH`."""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.config import (
    Config,
    MeshConfig,
    ModelConfig,
    SamplingConfig,
    TextConfig,
)
from mvar_jax.evaluation.samples import (
    Layout,
    SampleDrawing,
    SampleManifest,
    find_samples,
    write_samples,
)
from mvar_jax.mesh.sharding import make_mesh
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.sampling import Model, Sampler, Weights
from mvar_jax.text import WordEmbeddings
from mvar_jax.text.prompts import PromptTokenizer
from mvar_jax.tokenizers import BSQTokenizer
from tests.sampling.test_model import tiny_model
from tests.training.tiny import BITS

WIDTH, WORDS = 8, 50
HERE = {"device": "this one"}


def text_model():
    """A model of texts of 8x8 pixels, random weights; it reads words by random embeddings."""
    tokenizer = BITS
    model = ModelConfig(
        condition="text",
        text=TextConfig(WIDTH, 32),
        depth=1,
        width=16,
        heads=2,
        pattern=("history+text",),
        positions="rotary",
        levels=4,
        shared_modulation=True,
    )
    sampling = SamplingConfig(guidance=1.0, top_k=0, top_p=0.9)
    config = Config(tokenizer=tokenizer, model=model, sampling=sampling)
    sampler = Sampler(build_trunk(config), BSQTokenizer(tokenizer))
    shapes = (
        jax.eval_shape(sampler.trunk.init, jax.random.key(0), *example_inputs(sampler.trunk)),
        jax.eval_shape(sampler.tokenizer.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3))),
    )
    leaves, tree = jax.tree.flatten([shape["params"] for shape in shapes])
    rng = np.random.default_rng(1)
    values = [jnp.asarray(0.4 * rng.standard_normal(x.shape, np.float32)) for x in leaves]
    return Model(config, (), sampler, Weights(*jax.tree.unflatten(tree, values)), "", words(rng))


def words(rng):
    """An encoder that knows words by their letters; the last is the end of the text."""
    embeddings = rng.standard_normal((WORDS, WIDTH), np.float32)

    def split(text):
        return [sum(map(ord, word)) % (WORDS - 1) for word in text.split()]

    return WordEmbeddings("words", embeddings, PromptTokenizer(WORDS - 1, split, WORDS))


def drawing(model, *, layout=None, count=11, seed=0, batch=4, **settings):
    return SampleDrawing(model, layout or Layout(), count, seed, batch, settings)


def write(samples, out, environment=HERE):
    """Writes them on the mesh of all devices; returns the manifest, None if it was there."""
    plan = SampleManifest(samples.describe(), environment)
    with jax.set_mesh(make_mesh(MeshConfig(), jax.local_devices())):
        if find_samples(plan, out) is None:
            return write_samples(samples, plan, out)
    return None


def slowly(draw):
    """Draws, but leaves time to be killed between two batches."""

    def draw_slowly(self, numbers):
        time.sleep(0.3)
        return draw(self, numbers)

    return draw_slowly


if __name__ == "__main__":
    folder, count, batch = sys.argv[1:]
    SampleDrawing.draw = slowly(SampleDrawing.draw)
    write(drawing(tiny_model(), count=int(count), batch=int(batch)), Path(folder))
