"""Published budgets of ScaleKV and orders of HeatKV give the published cuts."""

import json

import numpy as np
import pytest

from mvar_jax.cache import AttentionShape, prepare_compression
from mvar_jax.cache.head_orders import read_head_orders
from mvar_jax.cache.policies.scalekv_budgets import PUBLISHED, Budgets
from mvar_jax.config import infinity_schedule
from mvar_jax.scales import ScaleSchedule
from tests.cache.attention import SHAPE, prepare, random_tokens, run_layers
from tests.reference import GOLDEN

MILLION = infinity_schedule("1", "1M")
SHAPES = {"2b": AttentionShape(32, 16), "8b": AttentionShape(40, 28)}
SCHEDULE = ScaleSchedule.squares(1, 2, 3, 4, 5)


def test_the_released_budgets_of_scalekv():
    """As the published code reads its table: base capacity 650, from the ninth scale on."""
    rows = {"2b": (6385, 465, [0]), "8b": (6200, 200, [0, 1, 2])}
    for name, (large, small, drafters) in rows.items():
        plan = prepare_compression(
            "scalekv", MILLION, SHAPES[name], budgets=f"infinity-{name}", scoring="official"
        ).plan
        lengths = np.array([group.keep for (group,) in plan.layers])
        np.testing.assert_array_equal(
            lengths[:, :7], np.tile(np.cumsum(MILLION.lengths)[:7], (len(lengths), 1))
        )
        expected = np.full(len(lengths), small)
        expected[drafters] = large
        np.testing.assert_array_equal(lengths[:, 11], expected)
    assert PUBLISHED["infinity-2b"].after(8)[23] == 1490
    assert PUBLISHED["infinity-2b"].after(12) == PUBLISHED["infinity-2b"].after(11)


BAD_BUDGETS = {
    "unknown": (MILLION, SHAPES["2b"], {"budgets": "infinity-3b"}, "expected one of infinity-2b"),
    "layers": (
        MILLION,
        SHAPES["8b"],
        {"budgets": "infinity-2b"},
        "32 layers, but the model has 40",
    ),
    "budget": (MILLION, SHAPES["2b"], {"budgets": "infinity-2b", "budget": 9}, "leave ratio"),
    "window": (MILLION, SHAPES["8b"], {"budgets": "infinity-8b", "grid": 15}, "smaller grid"),
    "scales": (
        ScaleSchedule.squares(1, 9, 30, 40),
        SHAPES["2b"],
        {"budgets": "infinity-2b"},
        "no row",
    ),
}


@pytest.mark.parametrize("case", BAD_BUDGETS)
def test_budgets_that_do_not_fit_are_refused(case):
    schedule, shape, arguments, word = BAD_BUDGETS[case]
    with pytest.raises(ValueError, match=word):
        prepare_compression("scalekv", schedule, shape, **arguments)


def test_a_table_of_ones_own(monkeypatch):
    monkeypatch.setitem(PUBLISHED, "mine", Budgets(13, {4: (9, 5), 5: (12, 6)}))
    compression = prepare_compression("scalekv", SCHEDULE, SHAPE, budgets="mine", grid=2)
    assert [group.keep[:4] for (group,) in compression.plan.layers] == [(1, 5, 9, 12), (1, 5, 5, 6)]


@pytest.fixture(params=SHAPES)
def published(request, tmp_path):
    """A file of HeatKV's published orders, its pairs [head, layer], and the model's shape."""
    with np.load(GOLDEN / "heatkv" / "orders.npz") as stored:
        orders = stored[request.param].astype(int)
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(orders.tolist()))
    return path, orders, SHAPES[request.param]


def kept_scales(orders, shape, share):
    """Which scales every head keeps before every map, by a straightforward replay."""
    lengths, sinks = MILLION.lengths, 21
    budget = share * 6425
    kept = np.ones((*shape, 13, 13), bool)  # layer, head, map to be drawn, source scale
    for reader in range(1, 13):
        history = sum(lengths[:reader])
        count = 0
        if history > budget:
            count = int(
                np.ceil(shape.layers * shape.heads * (history - budget) / (history - sinks))
            )
        kept[:, :, reader, reader:] = False
        for source in range(3, reader):
            for head, layer in orders[source - 3][:count]:
                kept[layer, head, reader, source] = False
    return kept


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_heatkv_follows_the_published_timetable_head_by_head(published, share):
    path, orders, shape = published
    compression = prepare_compression(
        "heatkv", MILLION, shape, share=share, groups=0, orders=str(path)
    )
    expected = kept_scales(orders, shape, share)
    ranks = np.array(compression.table)  # in the plan's order of heads
    for layer, groups in enumerate(compression.plan.layers):
        first = 0
        for group in groups:
            for place in range(first, first + group.heads):
                head = compression.plan.head_order[layer][place]
                for reader in range(1, 13):
                    known = expected[layer, head, reader]
                    length = group.keep[reader - 1]
                    assert length == np.array(MILLION.lengths)[known].sum()
                    # The scales of the highest ranks are exactly those that are kept.
                    order = np.argsort(-ranks[layer, place, :reader], kind="stable")
                    assert known[order[: known.sum()]].all()
            first += group.heads
    total = np.array(compression.plan.kept[:-1]) / (shape.layers * shape.heads)
    assert np.all(total <= max(share * 6425, 21))


def test_exact_groups_keep_whole_scales():
    """As attention keeps them, on random tokens and a random profile."""
    compression = prepare("heatkv", SCHEDULE, budget=24, groups=0)
    for layer, steps in enumerate(run_layers(compression, random_tokens(SCHEDULE, batch=1))):
        for scale, step in enumerate(steps[:-1]):
            for group, cache in zip(compression.plan.layers[layer], step.after.groups):
                sources = np.asarray(cache.source(SCHEDULE))
                for head in sources[0]:
                    found, counts = np.unique(head, return_counts=True)
                    assert counts.tolist() == [SCHEDULE.lengths[k] for k in found]
                assert cache.length == group.keep[scale]


@pytest.mark.parametrize(
    ("orders", "word"),
    [
        ([[[0, 0]]], r"got orders of shape \(1, 1, 2\)"),
        ([[[0, 0], [0, 0]]], "each pair"),
        ([[[0, 0], [1, 1]]], "each pair"),
        ("none", "not a file of head orders"),
        ([[[0.5, 0], [1, 0]]], "not a file of head orders"),
    ],
)
def test_orders_of_another_model_are_refused(tmp_path, orders, word):
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(orders))
    with pytest.raises(ValueError, match=word):
        read_head_orders(path, ScaleSchedule.squares(1, 2, 3), AttentionShape(1, 2), 1)


def test_orders_become_ranks(tmp_path):
    path = tmp_path / "orders.json"
    path.write_text(json.dumps([[[1, 0], [0, 1], [0, 0], [1, 1]]]))
    ranks = read_head_orders(path, ScaleSchedule.squares(1, 2, 3), AttentionShape(2, 2), 1)
    np.testing.assert_array_equal(ranks[:, :, 1], [[2, 0], [1, 3]])
