"""Samples images from a trained model into one picture, a row of columns per label.

    python -m mvar_jax.sample --workdir=runs/digits --labels=3,7 --seed=0 --out=grid.png

With `--policy`, attention over the history remembers less, `--ratio` or `--budget` says how much.
With `--grow`, each image has a row of its own, which shows it after every scale.
Trunk and tokenizer may lie in two directories, given by `--checkpoint` and `--tokenizer`.
"""

from pathlib import Path

import numpy as np
from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.cache import Profile
from mvar_jax.pictures.image_grid import growth_grid, image_grid, save_png
from mvar_jax.sampling.model import Model

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a trained model.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Directory of the trunk, in its place.")
TOKENIZER = flags.DEFINE_string("tokenizer", None, "Directory of another tokenizer.")
LABELS = flags.DEFINE_list("labels", None, "Classes by index or name.", required=True)
OUT = flags.DEFINE_string("out", None, "The PNG file to write.", required=True)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the randomness.", lower_bound=0)
COLUMNS = flags.DEFINE_integer("columns", 8, "Images per label.", lower_bound=1)
GROW = flags.DEFINE_bool("grow", False, "Draw a row per image, a column per scale.")
POLICY = flags.DEFINE_string("policy", None, "How the attention cache is compressed, as hack.")
RATIO = flags.DEFINE_float("ratio", None, "Share of all tokens that the policy evicts.")
BUDGET = flags.DEFINE_integer("budget", None, "Tokens a head that it keeps, in place of --ratio.")
PROFILE = flags.DEFINE_string("profile", None, "What python -m mvar_jax.calibrate measured.")
PRESETS = {
    "fid": {"guidance": 1.5, "top_k": 900, "top_p": 0.96},  # near the data's distribution
    "picture": {"guidance": 4.0, "top_k": 900, "top_p": 0.95},  # for looking at
}
PRESET = flags.DEFINE_enum("preset", None, PRESETS, "The official settings for a purpose.")
SETTINGS = {
    "guidance": flags.DEFINE_float("guidance", None, "Guidance at the last scale, 0 for none."),
    "top_k": flags.DEFINE_integer("top_k", None, "Draw from the k likeliest tokens, 0 for all."),
    "top_p": flags.DEFINE_float("top_p", None, "Draw from the likeliest share p, 0 for all."),
    "temperature": flags.DEFINE_float("temperature", None, "Divides the logits."),
    "smooth": flags.DEFINE_bool("smooth", None, "Mix codes instead of drawing tokens."),
}


def main() -> None:
    """Samples, draws and writes."""
    if not OUT.value.endswith(".png"):
        raise ValueError(f"--out: got {OUT.value!r}, expected a name that ends in .png.")
    if Path(OUT.value).is_dir():
        raise ValueError(f"--out: {OUT.value} is a directory, expected a file.")
    folder = Path(OUT.value).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"--out: {folder} is no directory; make it, or name another file.")
    if (WORKDIR.value is None) == (CHECKPOINT.value is None):
        raise ValueError("expected one of --workdir and --checkpoint, with or without --tokenizer.")
    model = _compressed(load(WORKDIR.value or CHECKPOINT.value, TOKENIZER.value))
    indices = model.label_indices(LABELS.value)
    given = {name: flag.value for name, flag in SETTINGS.items() if flag.value is not None}
    settings = PRESETS.get(PRESET.value, {}) | given
    labels = np.repeat(indices, COLUMNS.value).tolist()
    if GROW.value:
        images = model.grow(labels, SEED.value, **settings)
        names = [model.class_names[label] for label in labels]
        picture = growth_grid(images, names, _enlargement(images))
    else:
        images = model.sample(labels, SEED.value, **settings).images
        names = [model.class_names[index] for index in indices]
        picture = image_grid(images, COLUMNS.value, names, scale=_enlargement(images))
    save_png(picture, OUT.value)
    print(f"Wrote {OUT.value}.")


def _compressed(model: Model) -> Model:
    """The model under the policy that the flags name, and what that means in words."""
    if POLICY.value is None:
        given = [flag.name for flag in (RATIO, BUDGET, PROFILE) if flag.value is not None]
        if given:
            raise ValueError(f"--{given[0]}: got no --policy for it; name one, as --policy=hack.")
        return model
    profile = None if PROFILE.value is None else Profile.load(Path(PROFILE.value).expanduser())
    model = model.compressed(POLICY.value, ratio=RATIO.value, budget=BUDGET.value, profile=profile)
    print(model.cache_summary())
    return model


def _enlargement(images: np.ndarray) -> int:
    """How many pixels of the picture a side of a pixel takes."""
    return max(1, 64 // images.shape[-2])


if __name__ == "__main__":
    cli.run(main)
