"""Rotary positions: exact rounding, lengths kept, and angles that add up."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import infinity_schedule, nearest_aspect, parse_aspect, position_grid, reshaped
from mvar_jax.config.infinity_schedules import ASPECTS
from mvar_jax.ops.rotary import grid_coordinates, rotary_angles, rotate
from mvar_jax.scales import VAR_256, ScaleSchedule


@pytest.mark.parametrize("aspect", ASPECTS)
def test_coordinates_are_rounded_half_to_even(aspect):
    schedule = infinity_schedule(aspect, "1M")
    expected = [
        [round(Fraction(i * schedule.last[0], h)), round(Fraction(j * schedule.last[1], w))]
        for h, w in schedule.sizes
        for i in range(h)
        for j in range(w)
    ]
    np.testing.assert_array_equal(grid_coordinates(schedule.sizes, schedule.last), expected)


def test_rotation_keeps_lengths_and_depends_on_differences_only():
    """The product of a query and a key is the same when both move by the same step."""
    cos, sin = rotary_angles(((4, 5),), (4, 5), 8)
    query, key = np.random.default_rng(0).standard_normal((2, 1, 1, 1, 8)).astype(np.float32)
    turned = [rotate(jnp.tile(x, (1, 1, 20, 1)), (cos, sin))[0, 0] for x in (query, key)]
    np.testing.assert_allclose(jnp.linalg.norm(turned[0], axis=-1), np.linalg.norm(query), 1e-5)
    products = (turned[0] @ turned[1].T).reshape(4, 5, 4, 5)
    np.testing.assert_allclose(products[0, 0, 1, 2], products[2, 1, 3, 3], rtol=1e-4)
    assert abs(float(products[0, 0, 1, 2] - products[0, 0, 2, 1])) > 1e-3


def test_rotation_keeps_the_dtype():
    angles = rotary_angles(((2, 2),), (2, 2), 4)
    assert rotate(jnp.ones((1, 1, 4, 4), jnp.bfloat16), angles).dtype == jnp.bfloat16


def test_grids():
    assert position_grid(infinity_schedule("0.5", "0.06M")) == (45, 90)
    assert position_grid(VAR_256) == (16, 16)
    assert position_grid(ScaleSchedule.squares(1, 2, 4, 6, 8)) == (64, 64)


def test_aspects():
    assert parse_aspect("3:2") == "0.666" and parse_aspect("2:3") == "1.5"
    assert parse_aspect("16:9") == "0.571" and parse_aspect(" 1:1 ") == "1"
    assert nearest_aspect(300.0, 100.0) == "3"
    for wrong in ("5:1", "3", "3:0", "", "a:b", "-3:2"):
        with pytest.raises(ValueError, match="expected width:height"):
            parse_aspect(wrong)


def test_reshaped_scales():
    small = infinity_schedule("1", "0.06M")
    assert reshaped(small, "1.5", None) == infinity_schedule("1.5", "0.06M")
    assert reshaped(small, None, "1M") == infinity_schedule("1", "1M")
    own = ScaleSchedule.squares(1, 2, 3, 4, 5, 6, 8)
    wide = reshaped(own, "0.5", None)
    assert wide.last == (6, 11) and wide.sizes[0] == (1, 1) and len(wide) == 7
    assert reshaped(own, None, None) == own
    with pytest.raises(ValueError, match="pixels"):
        reshaped(own, None, "1M")
    with pytest.raises(ValueError, match="aspect"):
        infinity_schedule("1.1", "1M")
    with pytest.raises(ValueError, match="pixels"):
        infinity_schedule("1", "2M")
