"""The command: what it prints and writes, stored statistics, and what it refuses."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest
from absl import flags

from mvar_jax.cli import networks
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.data.source import load_source
from mvar_jax.data.split_images import SplitImages
from mvar_jax.evaluate import metrics
from mvar_jax.evaluation.frechet import frechet_distance
from mvar_jax.workdir import Workdir
from tests.evaluation.networks import FEATURES, SPATIAL, tiny

KEYS = {"fid", "sfid", "inception_score", "inception_score_std", "precision", "recall", "kid"}
GOOD = {"mu": np.ones(FEATURES), "sigma": np.eye(FEATURES)}


def some(count, seed, height=4):
    return np.random.default_rng(seed).integers(1, 256, (count, height, 4, 3), np.uint8)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command on files in a folder; returns its report."""
    monkeypatch.setattr(networks, "load_inception", lambda file: tiny(weights=file.name))
    monkeypatch.setattr(networks, "load_efficientnet", lambda: tiny(networks.LITE, seed=1))
    np.savez(tmp_path / "drawn.npz", some(20, 0))
    np.savez(tmp_path / "real.npz", some(30, 1))

    known = flags.FLAGS

    def call(*arguments, inception="weights.pth", features=(), out="report.json"):
        values = flags.FlagValues()
        for name in filter(lambda name: name.startswith("grain"), known):
            values[name] = known[name]  # which reading images looks at
        monkeypatch.setattr(flags, "FLAGS", values)
        with monkeypatch.context() as patch:
            for name in ("DEFINE_string", "DEFINE_integer", "DEFINE_multi_enum"):
                patch.setattr(flags, name, partial(getattr(flags, name), flag_values=values))
            metrics.define_flags()
        given = [f"--{name}={tmp_path / file}" for name, file in arguments]
        given += [] if inception is None else [f"--inception={inception}"]
        given += [f"--features={name}" for name in features]
        values(["evaluate", *given, "--batch_size=8", f"--out={tmp_path / out}"])
        metrics.main()
        return json.loads((tmp_path / "report.json").read_text())

    return call


def test_a_report_has_every_metric_and_says_of_what(run, tmp_path, capsys):
    report = run(("samples", "drawn.npz"), ("reference", "real.npz"))
    assert report.keys() >= KEYS
    network = tiny()
    pools = [np.asarray(network.compute(network.params, some(*s)).pool) for s in ((20, 0), (30, 1))]
    assert report["fid"] == pytest.approx(frechet_distance(*pools), rel=1e-4)
    reference = report["reference"]
    assert (reference["images"], reference["height"], reference["width"]) == (30, 4, 4)
    assert len(reference["sha256"]) == 64
    assert report["networks"] == {"inception": {"weights": "weights.pth", "resize": "none"}}
    assert any("KID is of subsets of 20 images" in note for note in report["notes"])
    printed = capsys.readouterr()
    assert f"fid {report['fid']:.6g}\n" in printed.out
    assert "inception: drawn.npz: image 20/20" in printed.err


def test_a_set_has_no_distance_from_itself(run):
    report = run(("samples", "drawn.npz"), ("reference", "drawn.npz"))
    assert report["fid"] < 1e-12 and report["sfid"] < 1e-12
    assert report["precision"] == report["recall"] == 1


def test_statistics_are_stored_before_a_damaged_reference_ends_the_command(run, tmp_path):
    real = some(30, 1)
    np.savez(tmp_path / "damaged.npz", np.concatenate([real, np.zeros_like(real[:1])]))
    kept = ("samples", "drawn.npz"), ("store", "kept.npz")
    with pytest.raises(ValueError, match=r"damaged.npz.*30.* has NaN or infinite features of it"):
        run(*kept, ("reference", "damaged.npz"))
    report = run(("samples", "kept.npz"), ("reference", "real.npz"))
    assert report["samples"]["images"] == 20


def test_stored_statistics_stand_for_images(run, capsys):
    expected = run(("samples", "drawn.npz"), ("reference", "real.npz"))
    stored = run(("samples", "real.npz"), ("store", "real_statistics.npz"))
    assert "fid" not in stored and stored["samples"]["images"] == 30
    capsys.readouterr()
    report = run(("samples", "drawn.npz"), ("reference", "real_statistics.npz"))
    assert "real_statistics" not in capsys.readouterr().err  # nothing of it is computed again
    assert report["reference"]["images"] == 30
    for key in KEYS:
        assert report[key] == pytest.approx(expected[key], rel=1e-6)


def test_statistics_of_the_official_evaluator_come_before_images(run, tmp_path):
    mean, spread = np.ones(FEATURES), np.eye(FEATURES)
    stored = {"mu": mean, "sigma": spread, "mu_s": np.ones(SPATIAL), "sigma_s": np.eye(SPATIAL)}
    np.savez(tmp_path / "virtual.npz", some(30, 1), **stored)
    np.savez(tmp_path / "bare.npz", **stored)
    virtual = run(("samples", "drawn.npz"), ("reference", "virtual.npz"))
    bare = run(("samples", "drawn.npz"), ("reference", "bare.npz"))
    images = run(("samples", "drawn.npz"), ("reference", "real.npz"))
    assert virtual["fid"] == bare["fid"] != images["fid"]
    assert virtual["sfid"] == bare["sfid"]
    assert virtual["precision"] == images["precision"] and "precision" not in bare
    assert any("no images, hence no precision" in note for note in bare["notes"])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"arr_0": some(9, 0, height=8)}, "has images of 4 x 4 pixels, expected 8 x 4"),
        ({"arr_0": some(9, 0) / 255}, r"arr_0 is float64 \[9, 4, 4, 3\], expected uint8"),
        ({"labels": np.arange(3)}, "holds neither images .arr_0. nor statistics .mu and sigma. of"),
        ({"mu": np.ones(6)}, "holds one of mu and sigma, expected both"),
        ({"arr_0": some(1, 0)}, "got 1 image, expected at least 2"),
        (GOOD | {"weights": "other"}, "of the inception weights"),
        (GOOD | {"mu": np.ones(5)}, r"mu is float64 \[5\], expected real numbers \[6\]"),
        (GOOD | {"mu": np.ones(6) * 1j}, r"mu is complex128 \[6\], expected real"),
        (GOOD | {"mu": np.full(6, np.nan)}, "mu holds NaN or infinity"),
        (GOOD | {"sigma": np.full((6, 6), np.inf)}, "sigma holds NaN or infinity"),
        (GOOD | {"sigma": np.eye(6) + np.tri(6) / 9}, "sigma is not symmetric.* differ by 0.111"),
        (GOOD | {"sigma": -np.eye(6)}, "sigma: the covariance's eigenvalues are from -1 to -1"),
        (GOOD | {"sigma": np.diag([1, 1, 1, 1, 1, -1e-5])}, "eigenvalues are from -1e-05 to 1"),
        (GOOD | {"mu_s": np.ones(6), "sigma_s": np.eye(6)}, "expected real numbers .8."),
        (GOOD | {"features": np.ones(7)}, r"features is .* \[7\], expected .*\[images, 6\]"),
        (GOOD | {"features": np.full((7, 6), np.inf)}, "features holds NaN or infinity"),
        (GOOD | {"size": np.array(3)}, r"size is int64 \[\], expected real numbers \[2\]"),
        (GOOD | {"inception_score": np.array(3.0)}, "inception_score is float64"),
        (GOOD | {"mu": np.array([{}], object)}, "mu is of Python objects, not of numbers"),
        (GOOD | {"size": np.array([8, 8])}, "expected 8 x 8"),
    ],
)
def test_unfit_references_are_refused_before_samples_are_measured(
    run, tmp_path, capsys, arrays, words
):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        run(("samples", "drawn.npz"), ("reference", "bad.npz"))
    assert capsys.readouterr().err == ""


def test_only_the_sizes_of_statistics_are_looked_at(run, tmp_path):
    np.savez(tmp_path / "others.npz", **GOOD, image_size=np.array(256), resize=np.array("bicubic"))
    assert run(("samples", "drawn.npz"), ("reference", "others.npz"))["fid"] > 0
    np.savez(tmp_path / "two.npz", **GOOD, other_mu=np.ones(3), other_size=np.array([8, 8]))
    with pytest.raises(ValueError, match="expected 8 x 8"):
        run(("samples", "drawn.npz"), ("reference", "two.npz"))


def test_covariances_may_be_rounded(run, tmp_path):
    spread = np.diag([1, 1, 1, 1, 1, -1e-7]) + 1e-6 * np.tri(6)
    np.savez(tmp_path / "rounded.npz", mu=np.ones(6), sigma=spread)
    np.savez(tmp_path / "exact.npz", mu=np.ones(6), sigma=np.diag([1, 1, 1, 1, 1, 0]))
    found = [run(("samples", "drawn.npz"), ("reference", f"{n}.npz")) for n in ("rounded", "exact")]
    assert found[0]["fid"] == pytest.approx(found[1]["fid"], abs=1e-2)


def test_what_needs_more_images_is_left_out(run, tmp_path):
    np.savez(tmp_path / "few.npz", some(3, 2))
    report = run(("samples", "few.npz"), ("reference", "real.npz"))
    assert "precision" not in report and "recall" not in report
    assert report["fid"] > 0 and "kid" in report
    assert any("3 images are too few for precision and recall" in one for one in report["notes"])


def test_notes_are_said_once_and_of_what_is_reported(run, tmp_path):
    np.savez(tmp_path / "bare.npz", some(30, 1), **GOOD)
    np.savez(tmp_path / "named.npz", some(30, 1), **GOOD, weights="weights.pth")
    bare = run(("samples", "drawn.npz"), ("reference", "bare.npz"))["notes"]
    named = run(("samples", "drawn.npz"), ("reference", "named.npz"))["notes"]
    assert sum("does not say by which weights and resize" in note for note in bare) == 1
    assert not any("weights" in note for note in named)
    assert sum("FID is of 20 images, in papers of 50000" in note for note in named) == 1
    twice = run(
        ("samples", "drawn.npz"),
        ("reference", "drawn.npz"),
        features=["inception", networks.LITE],
    )["notes"]
    assert len(set(twice)) == len(twice) and sum("KID is of" in note for note in twice) == 1
    lite = run(
        ("samples", "drawn.npz"),
        ("reference", "real.npz"),
        features=[networks.LITE],
        inception=None,
    )["notes"]
    assert not any("KID" in note or "FID" in note for note in lite)


def test_what_is_missing_is_said(run):
    with pytest.raises(ValueError, match="expected --reference, to compare --samples with, or"):
        run(("samples", "drawn.npz"))
    with pytest.raises(ValueError, match=r"expected --inception=FILE, .* which are not downloaded"):
        run(("samples", "drawn.npz"), ("reference", "real.npz"), inception=None)
    for store, words in (
        ("statistics", r"that ends in \.npz"),
        ("new/a.npz", "whose folder is no"),
    ):
        with pytest.raises(ValueError, match=f"--store: got .*{words}"):
            run(("samples", "drawn.npz"), ("store", store))


def test_two_networks_report_each_its_own(run, tmp_path, monkeypatch):
    sets = ("samples", "drawn.npz"), ("reference", "real.npz"), ("store", "stored.npz")
    alone = run(*sets)
    both = run(*sets, features=["inception", networks.LITE])
    assert {key: both[key] for key in KEYS} == {key: alone[key] for key in KEYS}
    assert both.keys() - alone.keys() == {"fd_lite", "precision_lite", "recall_lite"}
    assert both["fd_lite"] != both["fid"]
    names = np.load(tmp_path / "stored.npz").files
    assert "inception_score" in names and "efficientnet-lite0_inception_score" not in names
    monkeypatch.setattr(networks, "load_efficientnet", tiny)
    with pytest.raises(ValueError, match=r"got fid, .* of two networks"):
        run(*sets, features=["inception", networks.LITE])


@pytest.mark.parametrize("read", ["samples", "reference"])
def test_nothing_that_is_read_is_replaced(run, tmp_path, read):
    run(("samples", "real.npz"), ("store", "kept.npz"))
    (tmp_path / "link.npz").symlink_to(tmp_path / "kept.npz")
    sets = {"samples": "drawn.npz", "reference": "real.npz"} | {read: "kept.npz"}
    before = {file: (tmp_path / file).read_bytes() for file in ("kept.npz", "real.npz")}
    for store in ("kept.npz", "link.npz", "real.npz"):
        with pytest.raises(ValueError, match=r"--store: .* holds what is measured or other images"):
            run(*sets.items(), ("store", store))
    assert before == {file: (tmp_path / file).read_bytes() for file in before}
    run(("samples", "drawn.npz"), ("store", "kept.npz"))  # statistics may be replaced


def test_a_split_of_the_data_is_a_set(run, tmp_path, monkeypatch):
    config = from_config_dict(load_config("digits.py:runlocal"))
    Workdir.of(tmp_path / "digits").save_config(config)
    report = run(("samples", "digits@train"), ("reference", "digits@test"))
    counts = [len(load_source(config.data.name, split)) for split in ("train", "test")]
    assert [report[name]["images"] for name in ("samples", "reference")] == counts
    assert report["fid"] > 0
    assert report["reference"]["source"] == str(tmp_path / "digits@test")
    split = SplitImages.open(config.data, "test", config.tokenizer.image_size, None)
    (images,) = split.batches(counts[1])
    assert report["reference"]["sha256"] == hashlib.sha256(images).hexdigest()
    np.savez(tmp_path / "same.npz", images)
    same = run(("samples", "same.npz"), ("reference", "digits@test"))
    assert same["fid"] < 1e-12
    wrong = {
        "digits": "is the folder of a run, expected images; a split of its data is .*digits@test",
        "digits@": "expected RUN@SPLIT",
    }
    for name, words in wrong.items():
        with pytest.raises(ValueError, match=words):
            run(("samples", name), ("reference", "digits@test"))
    with pytest.raises(ValueError, match="belongs to the run in its folder"):
        run(("samples", "same.npz"), ("reference", "same.npz"), out="digits/config.json")
    assert Workdir.of(tmp_path / "digits").config() == config
    with pytest.raises(ValueError, match=r"has no split 'dev', .*; name another"):
        run(("samples", "digits@dev"), ("reference", "digits@test"))
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        run(("samples", "other@test"), ("reference", "digits@test"))


def test_a_split_may_be_that_of_a_model_on_the_hub(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(metrics, "open_workdir", lambda run: asked.append(run) or Workdir(tmp_path))
    with pytest.raises(ValueError, match="holds no config"):
        metrics._source("hf://me/tiny@v1@test")
    assert asked == ["hf://me/tiny@v1"]
    with pytest.raises(ValueError, match="hf://me/tiny: expected RUN@SPLIT"):
        metrics._source("hf://me/tiny")
