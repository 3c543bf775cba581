"""Calibration measures what whole attention matrices would show."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.cache import Profile, prepare_compression
from mvar_jax.cache.observation import SELECTIVITY_QUERIES, attention_map, observe_full
from mvar_jax.cache.plan import AttentionShape
from mvar_jax.cache.policies.base import spread
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.sampling import calibrate
from mvar_jax.scales import ScaleSchedule
from tests.cache.attention import DIM, SHAPE, random_tokens
from tests.sampling.test_generate import numbered, request, tiny_models

SCHEDULE = ScaleSchedule(((1, 1), (2, 2), (3, 4), (8, 9)))  # the last in two pieces of queries


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def observed():
    """Statistics of one layer on random tokens, three images as pairs of rows, and the tokens."""
    tokens = random_tokens(SCHEDULE, batch=6)
    observation = observe_full(SCHEDULE, AttentionShape(1, SHAPE.heads))

    @jax.jit
    def run(tokens):
        cache = observation.empty_layer(0, 6, DIM, jnp.dtype("float32"))
        for scale, (query, key, value, raw) in enumerate(tokens):
            _, cache = cache.attend(query, key, value, raw, 0.5, scale)
        return cache.statistics

    return run(tokens), tokens


def conditional_attention(tokens, scale):
    """Attention of the conditional rows' queries of one scale, [images, heads, n, m]."""
    query = np.asarray(tokens[scale][0])[::2]
    key = np.concatenate([np.asarray(part[1])[::2] for part in tokens[: scale + 1]], axis=2)
    return softmax(0.5 * np.einsum("bhnd,bhmd->bhnm", query, key))


def test_variance_over_queries(observed):
    statistics, tokens = observed
    expected = conditional_attention(tokens, 3).var(axis=2).sum(axis=(0, 2))
    np.testing.assert_allclose(statistics.variance, expected, rtol=1e-4)


def test_mass_from_scale_to_scale(observed):
    statistics, tokens = observed
    for scale in range(4):
        shares = conditional_attention(tokens, scale).mean(axis=2).sum(axis=0)
        for source in range(4):
            expected = shares[:, SCHEDULE.slices[source]].sum(axis=-1) if source <= scale else 0
            np.testing.assert_allclose(statistics.mass[:, scale, source], expected, atol=1e-5)


def test_selectivity(observed):
    statistics, tokens = observed
    assert statistics.selectivity[0] == 0
    for scale in (1, 3):
        history = SCHEDULE.offsets[scale]  # fewer than the keys that count as few
        chosen = spread(SCHEDULE.lengths[scale], SELECTIVITY_QUERIES)
        shares = conditional_attention(tokens, scale)[:, :, chosen].mean(axis=1)
        current = shares[..., history:].sum(axis=-1).mean(axis=-1)
        few = shares[..., :history].sum(axis=-1).mean(axis=-1)
        np.testing.assert_allclose(statistics.selectivity[scale], (current * few).sum(), rtol=1e-4)


def test_similarity_of_adjacent_scales(observed):
    """Every key against the one of the scale before whose token covers its centre."""
    statistics, tokens = observed
    assert statistics.similarity[0] == 0
    unit = [np.asarray(part[1])[::2] for part in tokens]
    unit = [key / np.linalg.norm(key, axis=-1, keepdims=True) for key in unit]
    for scale in (1, 2, 3):
        (height, width), (rows, columns) = SCHEDULE.sizes[scale - 1 : scale + 1]
        total = 0
        for row, column in np.ndindex(rows, columns):
            place = int((row + 0.5) * height / rows) * width + int((column + 0.5) * width / columns)
            total += unit[scale][:, :, row * columns + column] * unit[scale - 1][:, :, place]
        expected = total.sum(axis=(0, 2)).mean() / (rows * columns)
        np.testing.assert_allclose(statistics.similarity[scale], expected, atol=1e-5)


def test_queries_and_keys_of_one_image_are_kept_for_plots(observed):
    statistics, tokens = observed
    shown = attention_map(np.asarray(statistics.query[1]), np.asarray(statistics.key[1]), 0.5)
    np.testing.assert_allclose(shown, conditional_attention(tokens, 3)[0, 1], atol=1e-5)


def test_profiles_of_batches_are_averages():
    labels, keys = np.array([0, 1, 2, 0], np.int32), numbered(4)

    def measure(rows):
        rows = np.array(rows)
        asked = request(labels[rows], keys[rows])
        return calibrate(*tiny_models(), asked, checksum="tiny", batch_size=2).profile

    whole, halves = measure([0, 1, 2, 3]), [measure([0, 1]), measure([2, 3])]
    assert whole.samples == 4 and whole.checksum == "tiny"
    assert whole.head_variance.shape == (1, 2)  # one of two blocks sees the history
    for name in ("head_variance", "mass", "selectivity", "key_similarity"):
        mean = sum(getattr(half, name) for half in halves) / 2
        np.testing.assert_allclose(getattr(whole, name), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole.mass.sum(axis=-1), 1, atol=1e-5)


def test_a_profile_survives_its_file_and_is_checked(tmp_path):
    profile = made_up_profile(SCHEDULE, SHAPE)
    profile.save(tmp_path / "profile.json")
    again = Profile.load(tmp_path / "profile.json")
    for name, value in vars(profile).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    again.check_fits("none", SCHEDULE, *SHAPE)
    for arguments, word in (
        (("none", ScaleSchedule.squares(1, 2), *SHAPE), "scales 1x1, 2x2, 3x4, 8x9"),
        (("none", SCHEDULE, 3, 4), "2 layers of 4 heads"),
        (("other", SCHEDULE, *SHAPE), "weights none"),
    ):
        with pytest.raises(ValueError, match=word):
            again.check_fits(*arguments)


def test_a_profile_of_format_1_is_read_and_written_as_such(tmp_path):
    path = tmp_path / "profile.json"
    made_up_profile(SCHEDULE, SHAPE).save(path)
    assert Profile.load(path).names_all_weights
    fields = json.loads(path.read_text())
    assert (fields["format"], fields["checksum"]) == ("mvar_jax attention profile 2", "none")
    fields |= {"format": "mvar_jax attention profile 1", "fingerprint": "71d049fe5d12aa25"}
    del fields["checksum"]
    path.write_text(json.dumps(fields))
    old = Profile.load(path)
    old.check_fits("71d049fe5d12aa25", SCHEDULE, *SHAPE)
    assert not old.names_all_weights
    old.save(path)
    assert json.loads(path.read_text()) == fields


def test_a_profile_of_an_earlier_version_lacks_similarities(tmp_path):
    path = tmp_path / "profile.json"
    made_up_profile(SCHEDULE, SHAPE).save(path)
    fields = json.loads(path.read_text())
    del fields["key_similarity"]
    path.write_text(json.dumps(fields))
    old = Profile.load(path)
    assert old.key_similarity is None and old.names_all_weights
    old.save(path)
    assert json.loads(path.read_text()) == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "mvar_jax attention profile 1"}',
        '{"format": "mvar_jax attention profile 3", "checksum": "none"}',
        "<html>not found</html>",
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, text):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(ValueError, match="not a profile"):
        Profile.load(tmp_path / "profile.json")
    with pytest.raises(ValueError, match="no such profile"):
        Profile.load(tmp_path / "other.json")


def test_a_profile_with_a_missing_number_is_refused(tmp_path):
    profile = made_up_profile(SCHEDULE, SHAPE)
    profile.head_variance[0, 0] = np.nan
    profile.save(tmp_path / "profile.json")
    with pytest.raises(ValueError, match="not a profile"):
        Profile.load(tmp_path / "profile.json")


def test_head_kinds_and_lengths_come_from_the_profile():
    profile = made_up_profile(SCHEDULE, SHAPE)
    low, high = np.argsort(profile.head_variance, axis=None)[[0, -1]]
    plan = prepare_compression("hack", SCHEDULE, SHAPE, ratio=0.7, profile=profile).plan
    for head, kind in ((low, "contextual"), (high, "structural")):
        layer, place = divmod(int(head), SHAPE.heads)
        first = plan.head_order[layer].index(place)
        counts = np.cumsum([group.heads for group in plan.layers[layer]])
        assert plan.layers[layer][int(np.searchsorted(counts, first, "right"))].kind == kind
