import json

from mvar_jax.benchmark.rows import Rows

COLUMNS = {"name": ("name", ""), "seconds": ("s", ".2f"), "ratio": ("ratio", ".1f")}


def test_rows_are_printed_and_kept_one_by_one(tmp_path, capsys):
    file = tmp_path / "rows.json"
    rows = Rows(COLUMNS, file)
    rows.add({"name": "a", "seconds": 0.125, "more": [1, 2]})
    assert json.loads(file.read_text()) == [{"name": "a", "seconds": 0.125, "more": [1, 2]}]
    rows.add({"name": "b", "seconds": 2.0, "more": []})
    assert len(json.loads(file.read_text())) == 2
    assert capsys.readouterr().out.splitlines() == [
        "| name | s |",
        "|---|---|",
        "| a | 0.12 |",
        "| b | 2.00 |",
    ]


def test_what_was_not_measured_is_left_empty(capsys):
    Rows(COLUMNS, None).add({"name": "a", "seconds": 1.0, "ratio": None})
    assert capsys.readouterr().out.splitlines()[-1] == "| a | 1.00 |  |"
