"""Policies keep what they promise, as much as they say, and nothing changes where all fits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvar_jax.cache import POLICIES, AttentionShape, Policy, memory_bytes, prepare_compression
from mvar_jax.cache.policies.hack import CONTEXTUAL, STRUCTURAL, merge_evicted
from mvar_jax.cache.policies.scalekv import observation_window
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.scales import ScaleSchedule
from tests.cache.attention import (
    DIM,
    SETTINGS,
    SHAPE,
    prepare,
    random_tokens,
    run_layers,
)
from tests.ops.agreement import runs_kernels

SCHEDULE = ScaleSchedule(((1, 1), (1, 2), (2, 2), (3, 4), (4, 5)))  # 39 tokens, 19 before the last
DROPPING = sorted(set(POLICIES) - {"full"})
BOTH_ORDERS = pytest.mark.parametrize(
    "name", [f"{name}@{order}" for name in DROPPING for order in ("before", "after")]
)
# A schedule, a share of the budgets there are, a batch size and a seed.
TYPICAL = (ScaleSchedule(((1, 1), (1, 2), (3, 3), (4, 3))), 0.4, 2, 7)
# Every case is compiled, so where time is short there is one.
EXAMPLES = pytest.mark.parametrize("examples", [0, pytest.param(10, marks=pytest.mark.slow)])


def holds(check, examples):
    """Runs a property on a typical case, and on so many others, the same ones every time."""
    check(TYPICAL)
    if examples:
        settings(max_examples=examples)(given(case=cases())(check))()


@st.composite
def cases(draw, sides=4):
    """A schedule whose first two scales are small, a budget, a batch size and a seed."""
    side = st.integers(1, sides)
    grown = sorted(draw(st.lists(st.tuples(side, side), min_size=2, max_size=3)))
    largest = (max(height for height, _ in grown) + 1, max(width for _, width in grown) + 1)
    schedule = ScaleSchedule(((1, 1), *grown, largest))
    return (
        schedule,
        draw(st.floats(0.0, 1.0)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 2**16)),
    )


def least(name, schedule):
    """The smallest budget that a policy accepts."""
    plain = name.split("@")[0]
    return POLICIES[plain](1, **SETTINGS.get(plain, {})).forced(schedule) + 1


def prepared(name, schedule, share):
    """A policy whose budget is a share of the way from the smallest to the whole."""
    low = least(name, schedule)
    return prepare(name, schedule, budget=round(low + share * max(schedule.total - 1 - low, 0)))


@pytest.mark.parametrize("name", ["hack@before", "hackpp@before", "scalekv@after+int8"])
def test_kernels_for_gpus_attend_to_what_is_chosen(name):
    # Heads of 16 channels, the fewest that the kernels take.
    tokens = [jnp.tile(part, 2) for part in random_tokens(SCHEDULE, batch=2)]

    def run(compression, implementation):
        cache, outputs = compression.empty_layer(0, 2, 2 * DIM, tokens[0].dtype), []
        for scale, (query, key, value, raw) in enumerate(tokens):
            mixed, cache = cache.attend(query, key, value, raw, 0.5, scale, implementation)
            outputs.append(mixed)
        return outputs

    compression, run = (
        prepare(name, SCHEDULE, budget=12),
        jax.jit(run, static_argnames="implementation"),
    )
    for implementation, kernel in (("xla", False), ("pallas_gpu", True)):
        own = partial(run, implementation=implementation)
        assert runs_kernels(own, compression) == kernel
    plain, ours = (run(compression, implementation=name) for name in ("xla", "pallas_gpu"))
    for expected, mixed in zip(plain, ours, strict=True):
        np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-5)


@BOTH_ORDERS
@pytest.mark.parametrize("storage", ["", "+int8"])
def test_a_cache_that_fits_the_budget_is_not_changed(name, storage):
    tokens = random_tokens(SCHEDULE, batch=2)
    whole = prepare(f"full{storage}", SCHEDULE)
    compression = prepare(name + storage, SCHEDULE, budget=SCHEDULE.total)
    for steps, exact in zip(run_layers(compression, tokens), run_layers(whole, tokens)):
        for step, full in zip(steps, exact, strict=True):
            np.testing.assert_array_equal(step.mixed, full.mixed)
            assert memory_bytes(step.after) == memory_bytes(full.after)


@pytest.mark.parametrize("name", DROPPING)
def test_budgets_above_the_history_change_nothing_when_the_cut_comes_after(name):
    history = SCHEDULE.total - SCHEDULE.lengths[-1]
    tokens = random_tokens(SCHEDULE, batch=2)
    whole = run_layers(prepare("full", SCHEDULE), tokens)
    layers = run_layers(prepare(f"{name}@after", SCHEDULE, budget=2 * history), tokens)
    for steps, full in zip(layers, whole):
        np.testing.assert_array_equal(steps[-1].mixed, full[-1].mixed)


@BOTH_ORDERS
@EXAMPLES
def test_lengths_are_those_of_the_plan_and_positions_ascend(name, examples):
    def check(case):
        schedule, share, batch, seed = case
        compression = prepared(name, schedule, share)
        layers = run_layers(compression, random_tokens(schedule, batch, seed))
        for layer, steps in enumerate(layers):
            for scale, step in enumerate(steps):
                for group, cache in zip(compression.plan.layers[layer], step.after.groups):
                    assert cache.key.shape == (batch, group.heads, group.keep[scale], DIM)
                    positions = np.asarray(cache.position, int)
                    assert np.all(np.diff(positions, axis=-1) > 0)
                    assert np.all(positions < sum(schedule.lengths[: scale + 1]))
                assert jnp.isfinite(step.mixed).all()
            assert memory_bytes(steps[-1].after) == 0

    holds(check, examples)


@pytest.mark.parametrize(
    "name",
    [
        "full",
        "full+int8",
        "hack+int8",
        *DROPPING,
        *(
            pytest.param(f"{name}+int8", marks=pytest.mark.slow)
            for name in DROPPING
            if name != "hack"
        ),
    ],
)
def test_planned_bytes_are_those_of_the_arrays(name):
    dtype = jnp.dtype("bfloat16")
    arguments = {} if name.startswith("full") else {"budget": 12}
    compression = prepare(name, SCHEDULE, **arguments)
    tokens = random_tokens(SCHEDULE, batch=2, dtype=dtype)
    layers = run_layers(compression, tokens)
    measured = [sum(memory_bytes(layer[scale].after) for layer in layers) for scale in range(5)]
    assert tuple(measured) == compression.bytes(2, DIM, dtype)


BIG = ScaleSchedule.squares(1, 2, 3, 4, 6, 9, 13)  # 316 tokens, 147 before the last


def formula(policy, history):
    """Tokens that a policy's own formula leaves, over all layers and heads."""
    everyone, whole = SHAPE.layers * SHAPE.heads, min(policy.budget, history)
    if policy.name == "hack":
        count = round(policy.contextual_share * everyone)
        few = min(policy.contextual_budget * BIG.total, policy.budget / 2)
        many = (policy.budget * everyone - few * count) / (everyone - count)
        return count * min(few, history) + (everyone - count) * min(many, history)
    if policy.name == "pyramidkv":
        falling = [policy.budget * (1 + policy.slope * (0.5 - i)) for i in range(SHAPE.layers)]
        return SHAPE.heads * sum(min(budget, history) for budget in falling)
    if policy.name == "heatkv" and history > policy.budget:
        forgettable = history - policy.forced(BIG)
        slots = np.ceil(everyone * (history - policy.budget) / forgettable)
        return everyone * history - slots * forgettable
    return everyone * whole


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.parametrize("ratio", [0.55, 0.7, 0.85])
def test_plans_hold_what_the_formula_says(name, ratio):
    compression = prepare(name, BIG, ratio=ratio)
    assert compression.policy.budget == round((1 - ratio) * BIG.total)
    for scale in range(len(BIG) - 1):
        expected = formula(compression.policy, sum(BIG.lengths[: scale + 1]))
        room = max(0.02 * expected, SHAPE.layers * SHAPE.heads)  # a token a group
        assert abs(compression.plan.kept[scale] - expected) <= room


@EXAMPLES
@pytest.mark.parametrize("order", ["before", "after"])
def test_structural_heads_keep_the_first_scales_and_the_current_one(order, examples):
    def check(case):
        schedule, share, batch, seed = case
        compression = prepared(f"hack@{order}", schedule, share)
        for steps in run_layers(compression, random_tokens(schedule, batch, seed)):
            for scale, step in enumerate(steps[:-1]):
                for group, cache in zip(step.after.plan, step.after.groups):
                    if group.kind == STRUCTURAL:
                        check_structural(schedule, scale, np.asarray(cache.position))

    holds(check, examples)


def check_structural(schedule, scale, positions):
    """The first two scales, then the current one: whole, or filling what is left."""
    forced, offset = sum(schedule.lengths[:2]), schedule.offsets[scale]
    seen = sum(schedule.lengths[: scale + 1])
    assert np.all(np.sum(positions < forced, axis=-1) == min(forced, seen))
    if offset >= forced:
        current = np.sum(positions >= offset, axis=-1)
        assert np.all(current == min(positions.shape[-1] - forced, schedule.lengths[scale]))


@EXAMPLES
@pytest.mark.parametrize(
    "name", ["scalekv@before", "scalekv@after", "snapkv@before", "snapkv@after"]
)
def test_windows_are_kept(name, examples):
    def check(case):
        schedule, share, batch, seed = case
        compression = prepared(name, schedule, share)
        steps = run_layers(compression, random_tokens(schedule, batch, seed))[0]
        for scale, step in enumerate(steps[:-1]):
            check_window(name, schedule, scale, step.before.groups[0], step.after.groups[0])

    holds(check, examples)


def check_window(name, schedule, scale, before, after):
    """Every row and head keeps the window of what was at hand."""
    tokens = schedule.lengths[scale]
    length = before.length + tokens
    window = np.arange(max(0, length - SETTINGS["snapkv"]["window"]), length)
    if name.startswith("scalekv"):
        window = observation_window(schedule.sizes[scale], SETTINGS["scalekv"]["grid"], length)
    # Places at hand as positions: what was kept before, then the scale's own tokens.
    old = np.asarray(before.position, int)
    own = np.broadcast_to(schedule.offsets[scale] + np.arange(tokens), (*old.shape[:2], tokens))
    wanted = np.concatenate([old, own], axis=-1)[..., window]
    kept = np.asarray(after.position, int)
    found = np.any(wanted[..., :, None] == kept[..., None, :], axis=-1)
    assert found.all()


@pytest.mark.parametrize("order", ["before", "after"])
def test_recent_and_first_tokens(order):
    tokens = random_tokens(SCHEDULE, batch=1)
    for name, expected in (
        ("sliding_window", [*range(9, 19)]),
        ("streaming_llm", [0, 1, 2, *range(12, 19)]),
    ):
        steps = run_layers(prepare(f"{name}@{order}", SCHEDULE, budget=10), tokens)[0]
        np.testing.assert_array_equal(steps[3].after.groups[0].position[0, 0], expected)


def test_heavy_hitters_are_summed_over_scales():
    tokens = random_tokens(SCHEDULE, batch=2)
    steps = run_layers(prepare("h2o@after", SCHEDULE, budget=18), tokens)[0]
    received = np.zeros((2, SHAPE.heads, SCHEDULE.total))
    for scale, (query, *_) in enumerate(tokens[:4]):
        keys = np.concatenate([key for _, key, _, _ in tokens[: scale + 1]], axis=2)
        logits = 0.5 * np.einsum("bhnd,bhmd->bhnm", query, keys)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        received[..., : keys.shape[2]] += weights.sum(axis=2)
    (cache,) = steps[3].after.groups
    assert cache.length == 18  # one of 19 had to go, by what all four scales paid
    expected = np.argmin(received[..., : 19 - 9], axis=-1)
    missing = [
        set(range(19)) - set(kept.tolist()) for kept in np.asarray(cache.position).reshape(-1, 18)
    ]
    assert missing == [{place} for place in expected.reshape(-1)]
    kept = np.take_along_axis(received, np.asarray(cache.position, int), axis=-1)
    np.testing.assert_allclose(cache.score, kept, rtol=1e-5)


def test_head_kinds_follow_the_variance():
    profile = made_up_profile(SCHEDULE, SHAPE)
    plan = prepare("hack", SCHEDULE, budget=20).plan
    lowest = np.sort(profile.head_variance, axis=None)[3]
    for layer, groups in enumerate(plan.layers):
        contextual = profile.head_variance[layer] <= lowest
        sizes = {group.kind: group.heads for group in groups}
        assert sizes.get(CONTEXTUAL, 0) == contextual.sum()
        assert sorted(plan.head_order[layer]) == list(range(SHAPE.heads))
        assert contextual[list(plan.head_order[layer])][: contextual.sum()].all()


@pytest.mark.parametrize("name", DROPPING)
def test_layers_that_are_alike_keep_as_much(name):
    exact = prepared(name, BIG, 0.4).plan
    plan = exact.alike()
    assert len(set(plan.layers)) == 1 and len(plan.layers) == SHAPE.layers
    assert sum(group.heads for group in plan.layers[0]) == SHAPE.heads
    np.testing.assert_allclose(plan.kept, exact.kept, rtol=0.02, atol=8)
    np.testing.assert_allclose(plan.attended, exact.attended, rtol=0.02, atol=8)
    for group in plan.layers[0]:
        before = 0
        for length, attend, keep in zip(BIG.lengths, group.attend, group.keep):
            assert attend <= before + length and keep <= before + length
            before = keep


def test_merging_is_a_mean_over_the_nearest():
    key = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 2.0], [0.0, 4.0]])[None, None]
    value = jnp.arange(4.0)[None, None, :, None] * jnp.ones((1, 1, 4, 2))
    merged_key, merged_value = merge_evicted(key, value, jnp.array([[[0, 2]]]))
    np.testing.assert_allclose(merged_value[0, 0, :, 0], [0.5, 2.5])
    lengths = np.linalg.norm(merged_key[0, 0], axis=-1)
    np.testing.assert_allclose(lengths, [(1 + np.hypot(0.9, 0.1)) / 2, 3.0], rtol=1e-6)
    np.testing.assert_allclose(merged_key[0, 0, 1] / lengths[1], [0.0, 1.0], atol=1e-6)


def test_scalekv_spends_the_mean_budget_on_drafters():
    policy = prepare("scalekv", BIG, budget=60, drafter_share=0.5).policy
    drafters = policy.drafters(BIG, SHAPE, made_up_profile(BIG, SHAPE))
    plan = prepare("scalekv", BIG, budget=60, drafter_share=0.5).plan
    for scale in range(len(BIG) - 1):
        history = sum(BIG.lengths[: scale + 1])
        budgets = [layer[0].keep[scale] for layer in plan.layers]
        if history <= 60:
            assert budgets == [history] * 2
            continue
        assert 120 - 2 <= sum(budgets) <= 120 or max(budgets) == history
        drafting = drafters[:, scale + 1]
        assert not drafting.any() or min(np.array(budgets)[drafting]) == max(budgets)


BAD = {
    "unknown": (("nonsense",), {"budget": 9}, "sliding_window"),
    "storage": (("hack+int4",), {"budget": 9}, "int8"),
    "order": (("hack@between",), {"budget": 9}, "before"),
    "neither": (("hack",), {}, "expected one of them"),
    "both": (("hack",), {"budget": 9, "ratio": 0.5}, "expected one of them"),
    "ratio 0": (("hack",), {"ratio": 0.0}, "39 tokens"),
    "ratio 1": (("hack",), {"ratio": 1.0}, "above 0 and below 1"),
    "initial": (("hack",), {"budget": 3}, "at least 4"),
    "window": (("snapkv",), {"budget": 3}, "at least 4"),
    "sinks": (("streaming_llm",), {"ratio": 0.95}, "ratio of at most 0.897"),
    "setting": (("hack",), {"budget": 9, "alpha": 0.5}, "contextual_share"),
    "full": (("full",), {"budget": 9}, "leave ratio and budget out"),
    "scoring": (("scalekv",), {"budget": 9, "scoring": "best"}, "official"),
    "kind of number": (("snapkv",), {"budget": 9, "window": 2.5}, "window 2.5, expected a whole"),
    "no number": (("hack",), {"budget": 9, "contextual_share": "x"}, "expected a number"),
    "truth": (("hack",), {"budget": 9, "merge": "no"}, "true or false"),
    "pool": (("snapkv",), {"budget": 9, "pool": 4}, "odd"),
    "share": (("heatkv",), {"share": 1.5}, "to 1"),
    "share and budget": (("heatkv",), {"share": 0.5, "budget": 9}, "leave ratio and budget out"),
    "threshold": (("ams_kv",), {"budget": 9, "threshold": 2.0}, "to 1.0"),
    "weight": (("ams_kv",), {"budget": 9, "demanding_weight": 0.5}, "from 1"),
    "grid": (("scalekv",), {"budget": 9, "grid": 0}, "from 1"),
    "attend ratio": (("hackpp",), {"budget": 9, "attend_ratio": 0.5}, "from 1"),
    "tau": (("hackpp",), {"budget": 9, "tau": float("nan")}, "expected a number"),
    "slope": (("pyramidkv",), {"budget": 9, "slope": 5.0}, "to 2"),
    "both orders": (("hack@after",), {"budget": 9, "order": "before"}, "one of the two"),
    "too short": (("snapkv",), {"budget": 9, "window": 40}, "only 39"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_in_one_sentence(case):
    arguments, keywords, word = BAD[case]
    with pytest.raises(ValueError, match=word):
        prepare(*arguments, SCHEDULE, **keywords)


def test_policies_of_one_name_do_not_replace_each_other():
    with pytest.raises(ValueError, match="there is one of that name"):

        class Other(Policy):
            name = "snapkv"

    class Unnamed(POLICIES["snapkv"]):
        pass

    assert POLICIES["snapkv"] is not Unnamed


def test_a_model_without_history_has_nothing_to_compress():
    with pytest.raises(ValueError, match="constant over the scales"):
        prepare("hack", SCHEDULE, AttentionShape(0, 4), budget=9)


def test_a_missing_profile_is_named():
    with pytest.raises(ValueError, match=r"head_variance.*calibrate"):
        prepare_compression("hack", SCHEDULE, SHAPE, budget=9)
