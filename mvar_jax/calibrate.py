"""Measures a model's attention, so that policies know its heads, layers and scales.

    python -m mvar_jax.calibrate --workdir=runs/shapes --policy=hack --samples=50 --out=profile.json

Samples with the full cache and writes a profile for every policy that needs one, and pictures
beside it: what `--policy` makes of the profile, and attention maps that show why.
"""

from pathlib import Path

import numpy as np
from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.cache import POLICIES
from mvar_jax.checks import check, check_seed
from mvar_jax.files import written_whole
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.attention import draw_attention, draw_profile
from mvar_jax.sampling import Filter, calibrate, image_keys

CALIBRATED = sorted(name for name, kind in POLICIES.items() if kind.needs)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a trained model.", required=True)
POLICY = flags.DEFINE_enum("policy", "hack", CALIBRATED, "The policy that pictures are of.")
SAMPLES = flags.DEFINE_integer("samples", 50, "Images to average over.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 10, "Images at a time.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 1, "Seed of the randomness.", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "The JSON file to write.", required=True)


def main() -> None:
    """Samples, measures, writes and draws."""
    out = Path(OUT.value).expanduser()
    check_seed(SEED.value)
    check(out.suffix == ".json", f"--out: got {OUT.value!r}, expected a name that ends in .json.")
    check(not out.is_dir(), f"--out: {out} is a directory, expected a file.")
    check(
        out.absolute().parent.is_dir(), f"--out: {out.absolute().parent} is no directory; make it."
    )
    model = load(WORKDIR.value)
    model.check_remembers()
    schedule = model.trunk.schedule
    labels = np.arange(SAMPLES.value, dtype=np.int32) % model.config.model.num_classes
    calibration = calibrate(
        model.trunk,
        model.tokenizer,
        model.params,
        labels,
        image_keys(SEED.value, SAMPLES.value),
        Filter.of(model.config.sampling),
        min(BATCH.value, SAMPLES.value),
        TaskProgress("calibration", SAMPLES.value, "image").reach,
    )
    profile, scale = calibration.profile, model.config.model.softmax_scale
    policy = POLICIES[POLICY.value](schedule.total // 4)
    pictures = {
        POLICY.value: draw_profile(profile, policy),
        "attention": draw_attention(
            profile, calibration.query, calibration.key, softmax_scale=scale
        ),
    }
    profile.save(out)
    for name, picture in pictures.items():
        with written_whole(out.with_suffix(f".{name}.png")) as draft:
            picture.savefig(draft, dpi=120, format="png")
    print(f"Wrote {out}; look at {', '.join(f'{out.stem}.{name}.png' for name in pictures)}.")


if __name__ == "__main__":
    cli.run(main)
