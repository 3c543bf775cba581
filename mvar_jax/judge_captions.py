"""Judges whether a model of captioned scenes draws what captions say, in combinations never seen.

    python -m mvar_jax.judge_captions --workdir=runs/texts --samples=256 --out=judged

Two classifiers of real renderings look for the class and the hue of the object. Writes judged.json
and .md into --out, a picture of some captions, and prompts.txt, the captions of combinations
that were kept out of training, for `compare_policies`.
"""

import json
from dataclasses import asdict

from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.checks import check, check_seed
from mvar_jax.evaluation.caption_judge import judge_model
from mvar_jax.evaluation.markdown import markdown_table
from mvar_jax.files import user_path, write_text
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import image_grid

SHOWN = 8  # rows and columns of the picture


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("workdir", None, "Directory of a trained model.", required=True)
    cli.define_verify()
    flags.DEFINE_integer("samples", 256, "Images of either kind of captions.", lower_bound=16)
    flags.DEFINE_integer("batch_size", 32, "Images at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
    flags.DEFINE_float("guidance", None, "In place of the config's.", lower_bound=0)
    flags.DEFINE_string("out", None, "Directory to write into; made if missing.", required=True)


def main() -> None:
    """Draws, judges and writes the report."""
    values, out = flags.FLAGS, user_path(flags.FLAGS.out)
    check_seed(values.seed)
    model = load(values.workdir, verify=cli.get_verify())
    data = model.config.data
    check(
        model.config.model.condition == "text" and data.name.startswith("shapes/"),
        f"--workdir: got a model of {model.config.model.condition} and {data.name}, expected one "
        "of texts and shapes/SIDE, whose captions can be judged.",
    )
    out.mkdir(parents=True, exist_ok=True)  # before anything runs long
    settings = {} if values.guidance is None else {"guidance": values.guidance}
    judged = judge_model(
        model,
        values.samples,
        seed=values.seed,
        batch_size=values.batch_size,
        settings=settings,
        progress=TaskProgress("judged", 2 * values.samples, "image").reach,
    )
    names = ("images", "class", "hue", "both")
    rows = [(name, *(f"{x:.3f}" for x in vars(one).values())) for name, one in judged.rows.items()]
    table = markdown_table(names, rows) + "\n"
    figures = {name: asdict(one) for name, one in judged.rows.items()}
    write_text(out / "judged.json", json.dumps({"seed": values.seed, **figures}, indent=2))
    write_text(out / "judged.md", table)
    write_text(out / "prompts.txt", "\n".join(judged.captions) + "\n")
    shown = judged.captions[:SHOWN]
    drawn = model.sample([text for text in shown for _ in shown], values.seed, **settings)
    save_picture(image_grid(drawn.images, SHOWN, shown, scale=2), out / "samples.png")
    print(table)


if __name__ == "__main__":
    cli.run(main, define_flags)
