"""What each part of a tokenizer's training brings, in equal time: a table and a picture.

python docs/photographs.py elpv_dataset/data/images photographs
python docs/tokenizer_ablation.py photographs ablation 15

Trains `configs/tokenizer.py:photos64` once per row of `ARMS`, each with the settings of the rows
above it too, for as many steps as take the given minutes on this machine; then measures all by
networks that none was trained with.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from operator import or_
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mvar_jax.data.pipeline import normalize
from mvar_jax.data.split_images import SplitImages
from mvar_jax.evaluation.markdown import markdown_table
from mvar_jax.files import write_text
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import image_grid
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.weights import load_tokenizer
from mvar_jax.workdir import Workdir

ARMS: dict[str, dict[str, Any]] = {
    "squared error": {"codebook.start_batches": 0, "codebook.restart_below": 0.0},
    "and codes from data, restarts": {
        "codebook.start_batches": 32,
        "codebook.restart_below": 0.2,
    },
    "and dropped scales": {"codebook.dropout_rate": 0.1},
    "and LPIPS of VGG16, of a fourth of the images in the last 15% of the steps": {
        "tokenizer_loss.lpips": 0.2,
        "tokenizer_loss.lpips_start": 0.85,
        "tokenizer_loss.lpips_every": 4,
    },
    "and a discriminator": {
        "tokenizer_loss.adversarial": 0.4,
        "tokenizer_loss.adversarial_start": 0.85,
        "tokenizer_loss.diffaug": True,
        "tokenizer_loss.discriminator_channels": 32,
        "tokenizer_loss.discriminator_layers": 2,
    },
}
TRIED = 60  # steps that show how long one takes
SHOWN = 8  # images
COLUMNS = ("psnr", "ssim", "lpips", "rfd_lite")


def settings() -> Iterator[dict[str, Any]]:
    """The settings of every arm, with those before it."""
    return accumulate(ARMS.values(), or_)


def train(photographs: str, workdir: Path, steps: int, own: dict[str, Any]) -> list[dict]:
    """Trains a tokenizer; returns how fast it was, in rows."""
    every = min(100, steps // 6)
    length = {"tokenizer_training.steps": steps, "tokenizer_training.log_every": every}
    given = own | length | {"data.directory": photographs}
    run("train_tokenizer", "--config=configs/tokenizer.py:photos64", workdir, given)
    log = (workdir / "tokenizer" / "throughput.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in log.splitlines()]


def run(program: str, *arguments: object) -> None:
    """Runs a program of the library; a path is its `--workdir`, a dict holds settings."""
    flags = []
    for one in arguments:
        if isinstance(one, dict):
            flags += [f"--config.{name}={value}" for name, value in one.items()]
        flags += [f"--workdir={one}"] if isinstance(one, Path) else []
        flags += [one] if isinstance(one, str) else []
    subprocess.run([sys.executable, "-m", f"mvar_jax.{program}", *flags], check=True)


def seconds_per_step(photographs: str, workdir: Path, own: dict[str, Any]) -> float:
    """The time of a step: the mean of a short run, whose losses begin at the same shares of it."""
    rows = train(photographs, workdir, TRIED, own)
    return float(np.mean([row["step_seconds"] for row in rows if "step_seconds" in row]))


def measured(workdir: Path) -> dict:
    """What `evaluate tokenizer` says of all validation images."""
    out = workdir / "measured.json"
    networks = ("--lpips=alex", "--features=efficientnet-lite0")
    run("evaluate", "tokenizer", workdir, f"--out={out}", *networks)
    return json.loads(out.read_text(encoding="utf-8"))


def reconstructed(workdir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of the validation split, and what the tokenizer makes of them."""
    config = Workdir(workdir).tokenizer.config()
    tokenizer, params = (
        build_tokenizer(config.tokenizer),
        load_tokenizer(config, Workdir(workdir)),
    )
    source = SplitImages.open(config.data, "validation", config.tokenizer.image_size, None)
    images = normalize(next(source.batches(source.count))[:: source.count // SHOWN][:SHOWN])
    made = jax.jit(lambda params, images: tokenizer.apply({"params": params}, images)[0])
    return np.asarray(images), np.asarray(made(params, images)).clip(-1, 1)


def main(photographs: str, out: str, minutes: str) -> None:
    """Trains, measures, writes table.md and reconstructions.png."""
    folder, rows, pictures = Path(out), [], []
    times = [
        seconds_per_step(photographs, folder / f"tried_{index}", own)
        for index, own in enumerate(settings())
    ]
    for index, (name, own, seconds) in enumerate(zip(ARMS, settings(), times)):
        workdir, steps = folder / f"arm_{index}", round(60 * float(minutes) / seconds)
        train(photographs, workdir, steps, own)
        found = measured(workdir)
        figures = [f"{found[column]:.4g}" for column in COLUMNS]
        usage = " ".join(f"{scale['share']:.0%}" for scale in found["usage"])
        rows.append((name, str(steps), *figures, usage))
        originals, made = reconstructed(workdir)
        pictures.append(made)
        write_text(folder / "table.md", markdown_table(("", "steps", *COLUMNS, "usage"), rows))
        shown = np.concatenate([originals, *pictures])
        picture = image_grid(shown, SHOWN, ("real", *list(ARMS)[: len(pictures)]), scale=2)
        save_picture(picture, folder / "reconstructions.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
