"""What the filters of logits keep, with traced limits too."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mvar_jax.ops.logits import filter_logits

filtered = jax.jit(filter_logits)

LOGITS = arrays(np.float32, (2, 9), elements=st.floats(-30, 30, width=32))
COARSE = arrays(np.float32, (2, 9), elements=st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]))


def test_limits_may_be_traced_and_do_not_recompile():
    logits, traces = jax.random.normal(jax.random.key(0), (2, 9)), []

    @jax.jit
    def traced(logits, top_k, top_p):
        traces.append((top_k, top_p))
        return filter_logits(logits, top_k, top_p)

    for top_k, top_p in ((0, 0.0), (1, 0.5), (4, 0.9), (9, 1.0)):
        result = traced(logits, jnp.int32(top_k), jnp.float32(top_p))
        if top_k == 4:
            np.testing.assert_array_equal(result, filter_logits(logits, top_k, top_p))
    assert len(traces) == 1


def kept_of(logits, top_k, top_p):
    result = np.asarray(filtered(logits, top_k, top_p))
    kept = np.isfinite(result)
    np.testing.assert_array_equal(result[kept], logits[kept])
    assert np.all(result[~kept] == -np.inf)
    return kept


@given(st.one_of(LOGITS, COARSE), st.integers(0, 9), st.floats(0, 1))
def test_the_largest_stays_and_nothing_kept_is_below_the_removed(logits, top_k, top_p):
    kept = kept_of(logits, top_k, top_p)
    assert np.all(kept[logits == logits.max(axis=-1, keepdims=True)])
    for row, chosen in zip(logits, kept):
        assert row[chosen].min() > row[~chosen].max(initial=-np.inf)


@given(st.one_of(LOGITS, COARSE), st.integers(1, 9))
def test_top_k_keeps_the_k_largest_and_their_ties(logits, top_k):
    limit = np.sort(logits, axis=-1)[:, -top_k, None]
    np.testing.assert_array_equal(kept_of(logits, top_k, 0.0), logits >= limit)


@given(LOGITS)
def test_top_k_of_one_keeps_the_maximum_whatever_top_p(logits):
    for top_p in (0.0, 0.3, 1.0):
        kept = kept_of(logits, 1, top_p)
        np.testing.assert_array_equal(kept, logits == logits.max(axis=-1, keepdims=True))


@given(st.one_of(LOGITS, COARSE), st.floats(0.01, 0.99))
def test_top_p_keeps_enough_and_no_more(logits, top_p):
    kept = kept_of(logits, 0, top_p)
    wide = np.float64(logits)
    shares = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    for row, share, chosen in zip(logits, shares, kept):
        assert share[chosen].sum() >= top_p - 1e-5
        without_smallest = chosen & (row > row[chosen].min())
        assert share[without_smallest].sum() < top_p + 1e-5
