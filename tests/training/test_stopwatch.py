"""The stopwatch: phases inside phases count once."""

from mvar_jax.training.stopwatch import Stopwatch


def test_an_inner_phase_stops_the_outer_one():
    times = iter([0.0, 1.0, 3.0, 8.0, 10.0])  # one reading when made, one per switch
    clock = Stopwatch(lambda: next(times))
    with clock.phase("train"):
        with clock.phase("compile"):
            pass
    assert clock.seconds == {"train": 2.0 + 2.0, "compile": 5.0}


def test_phases_add_up_and_end_when_an_error_leaves_them():
    times = iter([0.0, 1.0, 2.0, 5.0, 9.0])
    clock = Stopwatch(lambda: next(times))
    try:
        with clock.phase("save"):
            raise OSError
    except OSError:
        pass
    with clock.phase("save"):
        pass
    assert clock.seconds == {"save": 1.0 + 4.0}


def test_a_phase_is_read_while_it_runs():
    times = iter([0.0, 1.0, 3.0, 6.0, 7.0])
    clock = Stopwatch(lambda: next(times))
    with clock.phase("train"):
        assert clock.read("train") == 2.0
        assert clock.read("save") == 0.0
        assert clock.read("train") == 5.0
    assert clock.read("train") == 6.0
