"""Samples images from a trained model into one picture, a row of columns per label.

    python -m mvar_jax.sample --workdir=runs/digits --labels=3,7 --seed=0 --out=grid.png

With `--policy`, attention over the history remembers less, `--ratio` or `--budget` says how much.
Image 7 of the grid is drawn again alone by `--numbers=7`, with the same labels and columns.
With `--grow`, each image has a row of its own, which shows it after every scale.
Trunk and tokenizer may lie in two directories, given by `--checkpoint` and `--tokenizer`.
"""

import numpy as np
from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.checks import check
from mvar_jax.config import SAMPLING_PRESETS as PRESETS
from mvar_jax.pictures.image_grid import growth_grid, image_grid, save_png


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("workdir", None, "Directory of a trained model.")
    flags.DEFINE_string("checkpoint", None, "Directory of the trunk, in its place.")
    flags.DEFINE_string("tokenizer", None, "Directory of another tokenizer.")
    cli.define_verify()
    flags.DEFINE_list("labels", None, "Classes by index or name.", required=True)
    flags.DEFINE_string("out", None, "The PNG file to write.", required=True)
    flags.DEFINE_integer("seed", 0, "Seed of the randomness.", lower_bound=0)
    flags.DEFINE_integer("columns", 8, "Images per label.", lower_bound=1)
    flags.DEFINE_list("numbers", None, "Images of the grid to draw alone, counted from 0.")
    flags.DEFINE_bool("grow", False, "Draw a row per image, a column per scale.")
    cli.define_policy()
    flags.DEFINE_enum("preset", None, PRESETS, "The official settings for a purpose.")
    flags.DEFINE_float("guidance", None, "Guidance at the last scale, 0 for none.")
    flags.DEFINE_integer("top_k", None, "Draw from the k likeliest tokens, 0 for all.")
    flags.DEFINE_float("top_p", None, "Draw from the likeliest share p, 0 for all.")
    flags.DEFINE_float("temperature", None, "Divides the logits.")
    flags.DEFINE_bool("smooth", None, "Mix codes instead of drawing tokens.")


def main() -> None:
    """Samples, draws and writes."""
    values, out = flags.FLAGS, cli.output_file(".png")
    one = (values.workdir is None) != (values.checkpoint is None)
    check(one, "expected one of --workdir and --checkpoint, with or without --tokenizer.")
    policy = cli.get_policy()
    directory = values.workdir or values.checkpoint
    model = load(directory, values.tokenizer, verify=cli.get_verify())
    if policy:
        model = model.compressed(**policy)
        print(model.cache_summary())
    given = cli.given("guidance", "top_k", "top_p", "temperature", "smooth")
    settings = PRESETS.get(values.preset, {}) | given
    labels = np.repeat(model.label_indices(values.labels), values.columns)
    numbers, columns = list(range(len(labels))), values.columns
    if values.numbers is not None:
        expected = f"images of the grid, counted from 0 to {numbers[-1]}"
        numbers, columns = cli.get_numbers("numbers", int, numbers.__contains__, expected), 1
    labels = labels[numbers].tolist()
    names = [model.class_names[label] for label in labels]
    enlarge = max(1, 64 // model.config.tokenizer.image_size[1])  # the side of a drawn pixel
    if values.grow:
        grown = model.grow(labels, values.seed, numbers=numbers, **settings)
        picture = growth_grid(grown, names, enlarge)
    else:
        images = model.sample(labels, values.seed, numbers=numbers, **settings).images
        picture = image_grid(images, columns, names[::columns], scale=enlarge)
    save_png(picture, out)
    print(f"Wrote {values.out}.")


if __name__ == "__main__":
    cli.run(main, define_flags)
