"""The log of metrics: what is written, and what a resumed run keeps of it."""

import json

import pytest

from mvar_jax.training.metrics import MetricsLog

ROWS = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]


def write(path, rows=ROWS):
    log = MetricsLog(path, 0)
    for row in rows:
        log.append(row)
    return log


def test_rows_come_back_in_full_precision(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = write(path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS
    assert log.rows == ROWS


def test_resuming_drops_rows_past_the_restored_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    log = MetricsLog(path, 2)
    assert log.rows == ROWS[:2]
    log.append(ROWS[2])
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in ROWS)


def test_resuming_drops_incomplete_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    path.write_text('{"loss": 3.0}\nnull\n' + path.read_text()[:-4])
    assert MetricsLog(path, 3).rows == ROWS[:2]
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in ROWS[:2])


@pytest.mark.parametrize("name", ["metrics.jsonl", "throughput.jsonl"])
def test_resuming_drops_damaged_lines_and_names_them(tmp_path, caplog, name):
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    damaged = (b"\xff\xfe", b'{"step": "x"}', b'{"step": null}', b"[" * 10**5, b"[]")
    path.write_bytes(b"\n".join(damaged) + b"\n" + whole + b'{"step": \xff\xfe')
    assert MetricsLog(path, 3).rows == ROWS
    assert path.read_bytes() == whole
    named = [f"{path}: line {number} is damaged" for number in range(1, 6)]
    assert len(caplog.messages) == len(named)
    assert all(message.startswith(words) for message, words in zip(caplog.messages, named))


def test_a_run_from_the_start_begins_an_empty_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    assert MetricsLog(path, 0).rows == []
    assert path.read_text() == ""


def test_nan_and_inf_are_written_as_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = write(path, [{"step": 1, "loss": float("nan"), "psnr": float("inf")}])
    assert log.rows == [{"step": 1, "loss": None, "psnr": None}]
    assert path.read_text() == '{"step": 1, "loss": null, "psnr": null}\n'


def test_a_process_that_does_not_write_reads(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path)
    log = MetricsLog(path, 2, writes=False)
    log.append(ROWS[2])
    assert log.rows == ROWS and len(path.read_text().splitlines()) == 3


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = write(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match=r"metrics\.jsonl"):
        log.append(ROWS[2])
