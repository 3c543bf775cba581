"""From nothing to samples: trains a tokenizer and an M-VAR on handwritten digits, and judges them.

    python -m mvar_jax.quickstart --workdir=runs/digits

Writes samples.png, reconstructions.png and report.json into the working directory. Run again,
it resumes; finished parts are not repeated. With `--features=efficientnet-lite0` the report has
distances by that network too.
"""

import json
import time

from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.cli.networks import define_networks, describe_judges, get_extractors
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.evaluation.judges import Judges
from mvar_jax.evaluation.quickstart_report import judge
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.files import write_text
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.sampling.model import BATCH_SIZE
from mvar_jax.workdir import Workdir

SHOWN = ("label_accuracy", "label_accuracy_unguided", "frechet", "reconstruction_psnr")


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("workdir", None, "Where to work; made if missing.", required=True)
    flags.DEFINE_string("preset", "", "Preset of configs/digits.py, such as runlocal.")
    define_networks()


def main() -> None:
    """Trains both models, samples, judges the samples and writes the report."""
    started, workdir = time.monotonic(), Workdir.of(flags.FLAGS.workdir)
    config = from_config_dict(load_config(f"digits.py:{flags.FLAGS.preset}"))
    judges = Judges(get_extractors(BATCH_SIZE))
    outcomes = {
        "tokenizer": train_tokenizer(config, workdir),
        "trunk": train_trunk(config, workdir),
    }
    report, pictures = judge(load(workdir.path), outcomes, judges)
    report["networks"] = describe_judges(judges)
    report["seconds"]["total"] = time.monotonic() - started
    for name, picture in pictures.items():
        save_picture(picture, workdir.path / f"{name}.png")
    write_text(workdir.path / "report.json", json.dumps(report, indent=2))
    for name in (*SHOWN, "fd_lite", "fid"):
        if name in report:
            print(f"{name}: {report[name]:.4g}")
    print(f"Look at {workdir.path / 'samples.png'}; the rest is in report.json beside it.")


if __name__ == "__main__":
    cli.run(main, define_flags)
