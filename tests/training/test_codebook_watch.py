"""A collapsing tokenizer warns, in time and once; a healthy one does not."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import CodebookConfig, OptimizerConfig
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.codebook_watch import SETTLED, UsageWatch
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.placement import place
from mvar_jax.training.state import create_state
from mvar_jax.training.tokenizer_step import make_tokenizer_step
from tests.training.tiny import BITS, CONFIG

STEPS, LOG_EVERY = 200, 50
TOKENIZER = replace(CONFIG.tokenizer, vocabulary=256, code_channels=32)


def shaded(count=64):
    """Images of one colour each, with a brighter corner."""
    generator = np.random.default_rng(0)
    images = np.tile(generator.uniform(-1, 1, (count, 1, 1, 3)), (1, 8, 8, 1))
    images[:, :4, :4] *= generator.uniform(-1, 1, (count, 1, 1, 1))
    return {"image": jnp.asarray(images, jnp.float32)}


@pytest.fixture(scope="module")
def said():
    """What is said in trainings from codes of the initial width, and of order 1."""
    tokenizer = build_tokenizer(TOKENIZER)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=4e-2), STEPS, 64)
    step = make_tokenizer_step(tokenizer, optimizer, CONFIG.training)
    sentences = {}
    for codes in ("small", "of order 1"):
        params = tokenizer.init(jax.random.key(0), shaded()["image"])["params"]
        if codes == "of order 1":
            shape = params["quantizer"]["codebook"].shape
            params["quantizer"]["codebook"] = jax.random.normal(jax.random.key(1), shape)
        state = place(create_state(params, optimizer))
        watch, sentences[codes] = UsageWatch(CodebookConfig(), TOKENIZER), []
        for number in range(1, STEPS + 1):
            state, metrics = step(state, shaded())
            if number % LOG_EVERY == 0:
                row = {"step": number, **jax.tree.map(float, metrics)}
                sentences[codes] += watch(row)
    return sentences


def test_codes_of_order_one_collapse_and_warn(said):
    sentences = said["of order 1"]
    assert sentences and "scale" in sentences[0]
    assert "--config.codebook.restart_below=0.2 (docs" in sentences[0]


def test_small_codes_do_not_warn(said):
    assert said["small"] == []


def row(step, *usage, perplexity=2.0):
    named = {f"usage_scale_{k}": share for k, share in enumerate(usage, start=1)}
    return {"step": step, **named, **{f"perplexity_scale_{k}": perplexity for k in (1, 2)}}


def test_it_takes_two_low_rows_after_the_start_and_warns_once():
    watch = UsageWatch(CodebookConfig(), CONFIG.tokenizer)
    assert watch(row(SETTLED - 1, 0.01, 0.5)) == []
    assert watch(row(SETTLED, 0.01, 0.5)) == []
    assert watch(row(SETTLED + 1, 0.5, 0.01)) == []
    (sentence,) = watch(row(SETTLED + 2, 0.01, 0.01))
    assert "scale 2 uses 1.0% of the codes" in sentence
    (sentence,) = watch(row(SETTLED + 3, 0.01, 0.01))
    assert "scale 1 uses" in sentence
    assert watch(row(SETTLED + 4, 0.01, 0.01)) == []


def test_one_code_for_all_is_low_however_few_tokens_there_are():
    watch = UsageWatch(CodebookConfig(), CONFIG.tokenizer)
    rows = [row(step, 0.25, 1.0, perplexity=1.0) for step in (200, 250)]
    assert [len(watch(one)) for one in rows] == [0, 1]  # of scale 1; one token is all of scale 2


def test_advice_is_what_is_not_done_yet():
    def advice(config, tokenizer=CONFIG.tokenizer):
        watch = UsageWatch(config, tokenizer)
        return [*watch(row(200, 0.01, 0.5)), *watch(row(250, 0.01, 0.5))][0]

    assert "--config.codebook.restart_below=0.2 (docs" in advice(CodebookConfig())
    done = CodebookConfig(restart_below=0.1)
    assert "tokenizer_optimizer.learning_rate" in advice(done)
    assert "--config.codebook.entropy_weight=0.1" in advice(CodebookConfig(), BITS)
    silent = UsageWatch(CodebookConfig(warn_below=0.0), CONFIG.tokenizer)
    assert [silent(row(step, 0.0, 0.0)) for step in (200, 250)] == [[], []]
