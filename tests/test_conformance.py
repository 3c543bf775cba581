"""Every reference file is computed again, and a wrong model is detected."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from mvar_jax.models import attention
from mvar_jax.ops.logits import filter_logits
from mvar_jax.ops.resize import resize_area
from mvar_jax.text import t5
from mvar_jax.tokenizers import residual_bsq, token_space
from tests import conformance
from tests.infinity_reference import KEPT, InfinityFile
from tests.reference import GOLDEN

HEAVY = (
    "infinity_b_d14_patchify",
    "mvar_tiny_c_l2",
    "scalekv_functions",
    "scalekv_model_0.06M",
    "scalekv_model_nonsquare",
    "var_tiny_a_nol2",
    "var_tiny_a_saln",
)
FILES = [
    pytest.param(path, marks=[pytest.mark.slow] if path.stem in HEAVY else [], id=path.stem)
    for path in sorted([*GOLDEN.glob("*.npz"), *KEPT.glob("*.npz"), *GOLDEN.glob("networks/*.npz")])
]


@pytest.mark.parametrize("path", FILES)
def test_every_array_is_that_of_the_original(path):
    lines = conformance.check(path)
    assert any(line.verdict == "PASS" for line in lines)
    assert not [str(line) for line in lines if line.verdict not in ("PASS", "GIVEN")]


def run(capsys, *paths):
    code = conformance.main([str(path) for path in paths])
    return code, capsys.readouterr()


def test_what_is_printed(capsys):
    code, printed = run(capsys, GOLDEN / "comp_phi.npz")
    first, x, *_, last = printed.out.splitlines()
    assert code == 0
    assert first == "comp_phi.npz: 4 of 4 arrays pass"
    assert x == "  GIVEN     x: an input, taken from the file"
    assert last == "everything passes"


def test_another_softmax_scale_fails(capsys, monkeypatch):
    """Half of the usual scale where VAR's is a quarter of it."""

    def twice(*vectors, softmax_scale, **rest):
        return right(*vectors, softmax_scale=2 * softmax_scale, **rest)

    right = attention.scale_attention
    monkeypatch.setattr(attention, "scale_attention", twice)
    code, printed = run(capsys, GOLDEN / "comp_attention.npz")
    assert code == 1
    for name in ("var_l2_out", "var_nol2_out", "mvar_l2_out", "mvar_nol2_out"):
        assert f"FAIL      {name}:" in printed.out


def test_a_softmax_scale_in_t5_fails(capsys, monkeypatch):
    """T5 has none."""

    def scaled(query, *rest):
        return right(query / query.shape[-1] ** 0.5, *rest)

    right = t5.biased_attention
    monkeypatch.setattr(t5, "biased_attention", scaled)
    code, printed = run(capsys, GOLDEN / "networks" / "t5_b.npz")
    assert code == 1
    for name in ("block0_attn_out", "hidden_1", "last_hidden_state", "long_last_hidden_state"):
        assert f"FAIL      {name}:" in printed.out
    assert "PASS      block0_attn_norm:" in printed.out


def test_top_p_before_top_k_fails(capsys, monkeypatch):
    def swapped(logits, top_k, top_p):
        return filter_logits(filter_logits(logits, 0, top_p), top_k, 0.0)

    monkeypatch.setattr(token_space, "filter_logits", swapped)
    code, printed = run(capsys, GOLDEN / "comp_sampling.npz")
    assert code == 1
    assert "FAIL      filtered_10:" in printed.out  # top-k of 20 and top-p of 0.8
    assert "PASS      filtered_7:" in printed.out  # top-p alone


def test_averaging_in_place_of_sampling_fails(capsys, monkeypatch):
    """Infinity's next input is sampled; only residuals are averaged."""
    monkeypatch.setattr(residual_bsq, "resize_bilinear", resize_area)
    code, printed = run(capsys, KEPT / "quantizer_d32.npz")
    assert code == 1 and "FAIL      bsc_clean_x:" in printed.out


def test_a_file_that_the_table_does_not_have_is_allowed_what_others_are():
    file = InfinityFile.load(KEPT / "quantizer_d32.npz")
    other = replace(file, name="quantizer_of_another_size")
    assert file.tolerance("bsc_requant1_x") == pytest.approx(2.8e-6)
    assert other.tolerance("bsc_requant1_x") == pytest.approx(1.2e-5)
    assert other.tolerance("bits") == 0


def altered(tmp_path, name, **changes):
    """A kept file with some arrays changed."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        arrays = {**stored, **changes}
    shutil.copy(GOLDEN / "configs.json", tmp_path)
    np.savez(tmp_path / f"{name}.npz", **arrays)
    return tmp_path / f"{name}.npz"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"unheard_of": np.zeros(3)}, "UNCHECKED unheard_of: the library has no such quantity"),
        ({"out_0": np.zeros((2, 32, 4, 4))}, "FAIL      out_0: got shape (2, 32, 16, 16)"),
        ({"out_1": np.full((2, 32, 16, 16), np.nan)}, "FAIL      out_1: max abs nan"),
    ],
)
def test_what_cannot_be_compared_fails(changes, line, tmp_path, capsys):
    code, printed = run(capsys, altered(tmp_path, "comp_phi", **changes))
    assert code == 1 and line in printed.out and "1 failures" in printed.out


def test_files_that_cannot_be_read(tmp_path, capsys):
    shutil.copy(GOLDEN / "configs.json", tmp_path)
    (tmp_path / "comp_phi.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", out_0=np.zeros(3))
    for path, reason in (
        (tmp_path / "comp_phi.npz", ""),
        (tmp_path / "none.npz", "No such file"),
        (tmp_path / "other.npz", "not described by"),
        (tmp_path / "comp_vae.npz", "No such file"),
        (tmp_path / "elsewhere" / "comp_vae.npz", "No such file"),
    ):
        code, printed = run(capsys, path)
        assert code == 2 and printed.err.startswith("error: ") and reason in printed.err


def test_the_library_computes_in_float32():
    assert not jax.config.jax_enable_x64


def test_no_file_is_no_success(capsys):
    code, printed = run(capsys)
    assert code == 2
    assert "expected at least one" in printed.err
