"""Compares policies of cache compression on a trained model, all on the same noise.

    python -m mvar_jax.compare_policies --workdir=runs/shapes --policies=hack,scalekv,snapkv \
        --ratios=0.5,0.7 --samples=256 --out=comparison

Writes comparison.json and comparison.md into --out, anew after every run, and at the end
curves.png and samples.png. Policies that need a profile take it from --profile, which is best
measured on another seed than is reported.
"""

import json
from pathlib import Path

from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.cache import POLICIES, Profile, parse_policy
from mvar_jax.checks import check, check_seed
from mvar_jax.config import Config
from mvar_jax.evaluation.class_conditional import ClassConditionalJudge, RealImages
from mvar_jax.evaluation.comparison_report import curves, markdown, sample_grid
from mvar_jax.evaluation.policy_comparison import compare_policies
from mvar_jax.files import write_text, written_whole
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.image_grid import save_png

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a trained model.", required=True)
NAMES = sorted(name for name in POLICIES if name != "full")
WANTED = flags.DEFINE_list("policies", NAMES, "As hack, scalekv@before, hack+int8, full+int8.")
RATIOS = flags.DEFINE_list("ratios", ["0.3", "0.5", "0.7", "0.9"], "Shares to evict.")
SAMPLES = flags.DEFINE_integer("samples", 256, "Images of every run.", lower_bound=2)
BATCH = flags.DEFINE_integer("batch_size", 32, "Images at a time.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
JUDGE = flags.DEFINE_bool("judge", True, "Fit a classifier on the data, for label accuracy.")
PROFILE = flags.DEFINE_string("profile", None, "What python -m mvar_jax.calibrate measured.")
OUT = flags.DEFINE_string("out", None, "Directory to write into; made if missing.", required=True)


def main() -> None:
    """Runs everything, and writes what came of it."""
    try:
        ratios = [float(ratio) for ratio in RATIOS.value]
    except ValueError:
        raise ValueError(f"--ratios: got {RATIOS.value}, expected numbers as 0.5,0.7.") from None
    for ratio in ratios:
        check(0 < ratio < 1, f"--ratios: got {ratio}, expected shares above 0 and below 1.")
    profile = None if PROFILE.value is None else Profile.load(Path(PROFILE.value).expanduser())
    check_seed(SEED.value)
    check(len(ratios) > 0, "--ratios: got none, expected shares as 0.5,0.7.")
    check(len(WANTED.value) > 0, "--policies: got none, expected names as hack,snapkv.")
    for name in WANTED.value:
        parse_policy(name)
    model, out = load(WORKDIR.value), Path(OUT.value).expanduser()
    model.check_remembers()
    judge = _judge(model.config) if JUDGE.value else None
    out.mkdir(parents=True, exist_ok=True)  # before anything runs long
    real = {"label_accuracy_real": judge.real()["label_accuracy_real"]} if judge else {}
    comparisons = compare_policies(
        model,
        WANTED.value,
        ratios,
        samples=SAMPLES.value,
        seed=SEED.value,
        batch_size=BATCH.value,
        profile=profile,
        accuracy=judge.accuracy if judge else None,
        progress=lambda name: TaskProgress(name, SAMPLES.value, "image").reach,
    )
    for comparison in comparisons:
        report = comparison.report() | {"seed": SEED.value, **real}
        write_text(out / "comparison.json", json.dumps(report, indent=2))
        write_text(out / "comparison.md", markdown(comparison))
    with written_whole(out / "curves.png") as draft:
        curves(comparison).savefig(draft, dpi=120, format="png")
    save_png(sample_grid(comparison), out / "samples.png")
    print(markdown(comparison))


def _judge(config: Config) -> ClassConditionalJudge:
    """A classifier of the real images that the model was trained on."""
    splits = (config.data.train_split, config.data.validation_split)
    return ClassConditionalJudge(*(RealImages.load(config, split) for split in splits))


if __name__ == "__main__":
    cli.run(main)
