"""Policies side by side: what is measured is what was planned, and equal to the full cache's."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from mvar_jax.cache import memory_bytes
from mvar_jax.config import Config, SamplingConfig
from mvar_jax.evaluation.comparison_report import curves, markdown, sample_grid
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.judges import Judges
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.evaluation.policy_comparison import compare_policies
from mvar_jax.models.checksum import checksum, embeddings_checksum
from mvar_jax.networks.lpips import VGG16
from mvar_jax.sampling import Model, generate_scales
from tests.evaluation.networks import tiny, tiny_lpips
from tests.sampling.test_generate import numbered, request, tiny_models

SETTINGS = {"seed": 0, "batch_size": 2, "profile": None, "accuracy": None, "judges": Judges()}


@pytest.fixture(scope="module")
def model():
    sampler, weights = tiny_models(("history",))
    config = Config(
        tokenizer=sampler.tokenizer.config,
        model=sampler.trunk.config,
        sampling=SamplingConfig(guidance=1.0, top_k=0, top_p=0.9),
    )
    return Model(config, ("a", "b", "c"), sampler, weights)


@pytest.fixture(scope="module")
def comparison(model):
    told = []

    def progress(name):
        return lambda done: told.append((name, done))

    policies = ["streaming_llm@after", "full+int8", "streaming_llm@before"]
    judges = Judges([FeatureExtractor(tiny("other"), 2)], tiny_lpips())
    accuracy = {"accuracy": lambda images: 0.5, "judges": judges}
    results = compare_policies(
        model,
        policies,
        [0.4, 0.6],
        condition=model.condition([0, 1, 2]),
        progress=progress,
        **SETTINGS | accuracy,
    )
    first, *_, last = results
    assert first.rows == last.rows[:2]  # the full cache and one policy; each run adds a row
    assert ("full+int8 0", 3) in told
    return last


def test_rows_measure_quality_and_cost(comparison):
    rows = {(row.policy, row.ratio): row for row in comparison.rows}
    full = rows["full", 0.0]
    assert (full.psnr, full.equal_tokens, full.ssim) == (100.0, 1.0, pytest.approx(1, abs=1e-5))
    assert full.divergence == 0.0
    # 9 tokens; the budget of 0.4 is 5, and the last of three scales has 6.
    assert rows["streaming_llm@after", 0.4].equal_tokens == 1.0
    cut = rows["streaming_llm@before", 0.4]
    by_scale = cut.divergence_by_scale
    assert by_scale[:2] == (0.0, 0.0) and by_scale[2] > 0
    assert cut.divergence == pytest.approx(by_scale[2] * 6 / 9)
    assert cut.psnr < 100 and cut.attention_flops < full.attention_flops
    small = rows["full+int8", 0.0]
    assert 0 < small.divergence < cut.divergence
    assert max(small.kv_bytes) < max(full.kv_bytes)
    assert full.tokens_of_history == 1.0 and full.tokens_of_all == pytest.approx(3 / 9)
    for row in comparison.rows:
        same = row.equal_tokens == 1
        assert (row.fd_lite < 1e-9, row.lpips < 1e-9, row.fid) == (same, same, None)
        assert row.accuracy == 0.5 and row.peak_bytes > max(row.kv_bytes) and row.seconds > 0


def test_flops_are_those_of_the_matmuls(comparison, model):
    pairs = sum(n * seen for n, seen in zip((1, 2, 6), (1, 3, 9)))
    heads, dim, layers = model.config.model.heads, model.config.model.head_dim, 2
    full = next(row for row in comparison.rows if row.policy == "full")
    assert full.attention_flops == 2 * layers * heads * pairs * 2 * 2 * dim


def test_duels_are_paired_and_what_cannot_run_is_reported(comparison):
    duels = {(duel.policy, duel.other, duel.ratio) for duel in comparison.duels}
    assert ("streaming_llm@after", "streaming_llm@before", 0.4) in duels
    assert set(comparison.refused) == set()  # a budget of 4 holds the 3 sinks and one more


def test_reports_hold_every_row(comparison):
    text = markdown(comparison)
    assert text.count("\n| streaming_llm@before |") >= 2
    assert json.loads(json.dumps(comparison.report()))["rows"][0]["policy"] == "full"
    assert sample_grid(comparison).size[0] > 3 * 12
    assert len(curves(comparison).axes) == 3


def test_refusals_do_not_stop_the_others(model):
    with pytest.raises(ValueError, match=r"none can run.*only 9"):
        next(
            compare_policies(
                model,
                ["snapkv"],
                [0.5],
                condition=model.condition([0, 1]),
                progress=lambda _: None,
                **SETTINGS,
            )
        )


def test_bytes_measured_are_bytes_planned(model):
    """The memory of a real run, scale by scale, is what the plan says."""
    profile = made_up_profile(model.trunk.schedule, model.trunk.attention_shape)
    profile = replace(profile, checksum=checksum(model.weights.trunk))
    small = model.compressed("hack+int8", budget=5, profile=profile)

    def run(weights):
        asked = request(np.zeros(1, np.int32), numbered(1))
        return [step.memory for step in generate_scales(small.sampler, weights, asked)]

    memories = jax.eval_shape(run, small.weights)
    assert tuple(map(memory_bytes, memories)) == small.cache_bytes()
    assert max(small.cache_bytes()) == small.carried_state_bytes() > 0


def test_what_fits_gives_the_same_image_bit_by_bit(model):
    whole = model.sample([0, 1], seed=3)
    same = model.compressed("sliding_window", budget=9).sample([0, 1], seed=3)
    np.testing.assert_array_equal(whole.images, same.images)
    small = model.compressed("sliding_window", budget=2).sample([0, 1], seed=3)
    assert np.any(small.images != whole.images)


def test_a_compressed_model_is_not_compressed_again(model):
    small = model.compressed("sliding_window", budget=2)
    with pytest.raises(ValueError, match="original"):
        small.compressed("full")


def test_a_profile_of_other_weights_is_refused(model):
    profile = made_up_profile(model.trunk.schedule, model.trunk.attention_shape)
    with pytest.raises(ValueError, match="weights none"):
        model.compressed("hack", budget=5, profile=profile)


def test_a_profile_is_of_all_weights_and_one_of_format_1_of_embeddings(model):
    made_up = made_up_profile(model.trunk.schedule, model.trunk.attention_shape)
    trunk = model.weights.trunk
    new = replace(made_up, checksum=checksum(trunk))
    short = embeddings_checksum(trunk)
    old = replace(made_up, checksum=short, format="mvar_jax attention profile 1")
    head = {**trunk["head"], "bias": trunk["head"]["bias"] + 1}
    tuned = replace(model, weights=model.weights.replace(trunk={**trunk, "head": head}))
    for profile in (new, old):
        order = model.compressed(
            "hack", budget=5, profile=profile
        ).weights.compression.plan.head_order
        assert order is not None
    with pytest.raises(ValueError, match=f"weights {new.checksum[:12]}, but the model's are"):
        tuned.compressed("hack", budget=5, profile=new)
    tuned.compressed("hack", budget=5, profile=old)  # the weights that it names are the same
    with pytest.raises(ValueError, match="weights none, but the model's are"):
        model.compressed("hack", budget=5, profile=replace(old, checksum="none"))


def test_a_model_without_history_reports_what_it_carries(model):
    sampler, weights = tiny_models(("scale+ssm",))
    config = replace(model.config, model=sampler.trunk.config)
    mvar = Model(config, model.class_names, sampler, weights)
    with pytest.raises(ValueError, match=rf"carries {mvar.carried_state_bytes()} bytes"):
        mvar.compressed("hack", ratio=0.5)


def test_images_that_a_judge_cannot_compare_are_refused_before_any_run(model):
    started = []
    judges = Judges(perceptual=replace(tiny_lpips(), backbone=VGG16))
    results = compare_policies(
        model,
        ["snapkv"],
        [0.5],
        condition=model.condition([0, 1]),
        progress=started.append,
        **SETTINGS | {"judges": judges},
    )
    with pytest.raises(ValueError, match="expected at least 16 x 16 for vgg"):
        next(results)
    assert not started
