"""Measures a model's attention, so that policies know its heads, layers and scales.

    python -m mvar_jax.calibrate --workdir=runs/shapes --policy=hack --samples=50 --out=profile.json

Samples with the full cache and writes a profile, which serves every policy that needs one, and two
plots beside it: how `--policy` divides heads, layers or scales by it, and attention maps.
"""

import numpy as np
from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.cache import POLICIES
from mvar_jax.checks import check_seed
from mvar_jax.cli import asked
from mvar_jax.files import written_whole
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.attention import draw_attention, draw_profile
from mvar_jax.sampling import Filters, calibrate
from mvar_jax.sampling.request import NumberedRequest

CALIBRATED = sorted(name for name, kind in POLICIES.items() if kind.needs)


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("workdir", None, "Directory of a trained model.", required=True)
    cli.define_verify()
    asked.define_prompts()
    flags.DEFINE_enum("policy", "hack", CALIBRATED, "The policy that pictures are of.")
    flags.DEFINE_integer("samples", 50, "Images to average over.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 10, "Images at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 1, "Seed of the randomness.", lower_bound=0)
    flags.DEFINE_string("out", None, "The JSON file to write.", required=True)


def main() -> None:
    """Samples, measures, writes and draws."""
    values = flags.FLAGS
    check_seed(values.seed)
    out = cli.output_file(".json")
    model = load(values.workdir, verify=cli.get_verify())
    model.check_remembers()
    schedule = model.sampler.scales
    numbers = np.arange(values.samples, dtype=np.uint32)
    condition, _ = asked.get_condition(model, values.samples)
    filters = Filters.of(model.config.sampling, len(schedule))
    numbered = NumberedRequest(condition, np.uint32(values.seed), numbers, filters)
    calibration = calibrate(
        model.sampler,
        model.weights,
        numbered.request(),
        checksum=model.checksum,
        batch_size=min(values.batch_size, values.samples),
        progress=TaskProgress("calibration", values.samples, "image").reach,
    )
    profile, scale = calibration.profile, model.config.model.softmax_scale
    policy = POLICIES[values.policy](schedule.total // 4)
    pictures = {
        values.policy: draw_profile(profile, policy),
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
    cli.run(main, define_flags)
