r"""Samples images from a trained model into one picture, a row of columns per label or prompt.

    python -m mvar_jax.sample --workdir=runs/digits --labels=3,7 --seed=0 --out=grid.png
    python -m mvar_jax.sample --workdir=runs/infinity_2b --prompt="a fox in snow" --aspect=3:2 \
        --text_encoder=flan-t5-xl --out=fox.png

`--labels=all` draws every class; `--classes` lists them. A model of texts takes `--prompt`, or
`--features` that `python -m mvar_jax.encode_text` wrote. `--out` may also be a folder, `images/`,
for a file per image, or a .npz for their arrays and tokens. Image 7 of the grid is drawn again by
`--numbers=7`, with the same labels and columns. With `--grow`, a row shows an image after every
scale. With `--policy`, attention remembers less, as `--ratio` or `--budget` says. With `--draft`,
another model draws the first `--draft_scales` scales. `--checkpoint` and `--tokenizer` name two.
"""

from dataclasses import replace

from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.cli import asked
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.drawing import Drawing
from mvar_jax.pictures.image_files import KINDS
from mvar_jax.sampling.model import BATCH_SIZE


def define_flags() -> None:
    """Defines the flags of this program."""
    asked.define_asked()
    cli.define_verify()
    flags.DEFINE_bool("classes", False, "List the model's classes, and draw nothing.")
    flags.DEFINE_string("out", None, "A .png, .jpg or .webp to write, a .npz, or a folder/.")
    flags.DEFINE_integer("seed", 0, "Seed of the randomness.", lower_bound=0)
    flags.DEFINE_integer("columns", 8, "Images per label or prompt.", lower_bound=1)
    flags.DEFINE_list("numbers", None, "Images of the grid to draw alone, from 0, as 3,12-15.")
    flags.DEFINE_bool("grow", False, "Draw a row per image, a column per scale.")
    flags.DEFINE_integer("scale", None, "Side of a drawn pixel, as 2.", lower_bound=1)
    cli.define_policy()
    cli.define_settings()


def main() -> None:
    """Samples, draws and writes."""
    values = flags.FLAGS
    asked_for = cli.given("labels", "prompt", "features", "out")
    check(
        not asked_for if values.classes else "out" in asked_for,
        "expected --labels and --out (of a model of texts --prompt), or --classes alone.",
    )
    if values.classes:
        print("\n".join(asked.get_classes(asked.get_model())))
        return
    out = cli.output_folder() or cli.output_file(*KINDS, ".npz", "/")
    picture = values.grow or values.scale
    both = picture and out.suffix.lower() == ".npz" and not out.is_dir()
    check(not both, "--out: a .npz has no --grow and no --scale; leave them out.")
    policy = cli.get_policy()
    print("Loading the model.", flush=True)
    model = asked.get_model()
    if policy:
        model = model.compressed(**policy)
        print(model.cache_summary())
    rows = asked.get_rows(model)
    numbers = cli.get_indices("numbers", len(rows.names) * values.columns)
    images = rows.pick([number // values.columns for number in numbers])
    settings = cli.get_settings(model.config.tokenizer.vocabulary)
    print(f"Drawing {len(numbers)} image(s).", flush=True)  # the first take long to compile
    with TaskProgress("drawing", len(numbers), "image") as progress:
        if len(numbers) > settings.get("batch_size", BATCH_SIZE):
            model = replace(model, report=progress.advance)
        columns = values.columns if values.numbers is None else 1
        drawing = Drawing(model, images, values.seed, numbers, settings)
        drawing.save(out, columns=columns, scale=values.scale, grow=values.grow)
    print(f"Wrote {values.out}.")


if __name__ == "__main__":
    cli.run(main, define_flags)
