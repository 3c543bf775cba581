"""A comparison of policies as a Markdown table, curves and a picture of samples."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mvar_jax.evaluation.comparison import EQUAL_PSNR, Comparison, Duel, Row
from mvar_jax.evaluation.markdown import markdown_table
from mvar_jax.evaluation.programs import MIB
from mvar_jax.files import write_text, written_whole
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import image_grid

COLUMNS: dict[str, Callable[[Row], str]] = {
    "policy": lambda row: row.policy,
    "evicted": lambda row: f"{row.ratio:.0%}",
    "PSNR dB": lambda row: f"{row.psnr:.2f}",
    "SSIM": lambda row: f"{row.ssim:.4f}",
    "LPIPS": lambda row: _known(row.lpips, ".4f"),
    "FID": lambda row: _known(row.fid, ".4g"),
    "FD-lite": lambda row: _known(row.fd_lite, ".4g"),
    "equal tokens": lambda row: f"{row.equal_tokens:.3f}",
    "KL nats": lambda row: f"{row.divergence:.4f}",
    "accuracy": lambda row: _known(row.accuracy, ".3f"),
    "inherited of all / of history": lambda row: (
        f"{row.tokens_of_all:.1%} / {row.tokens_of_history:.1%}"
    ),
    "KV MiB": lambda row: f"{max(row.kv_bytes) / MIB:.3f}",
    "peak MiB": lambda row: f"{row.peak_bytes / MIB:.0f}",
    "attention GFLOP": lambda row: f"{row.attention_flops / 1e9:.3f}",
    "ms an image": lambda row: f"{1e3 * row.seconds:.1f}",
    "compile s": lambda row: f"{row.compile_seconds:.1f}",
}
UNKNOWN = "-"


def save_report(comparison: Comparison, folder: Path, more: Mapping[str, Any]) -> None:
    """Writes `comparison.json`, with more figures of the whole comparison, and `comparison.md`."""
    report = json.dumps({**comparison.report(), **more}, indent=2)
    write_text(folder / "comparison.json", report)
    write_text(folder / "comparison.md", markdown(comparison))


def save_pictures(comparison: Comparison, folder: Path) -> None:
    """Writes `curves.png` and `samples.png`."""
    with written_whole(folder / "curves.png") as draft:
        curves(comparison).savefig(draft, dpi=120, format="png")
    save_picture(sample_grid(comparison), folder / "samples.png")


def markdown(comparison: Comparison) -> str:
    """All rows as a table, then the duels, then the policies that could not run."""
    about = (
        f"{comparison.samples} images, the same noise for all, against the full cache, which never "
        f"stores the last scale: of {comparison.tokens} tokens it keeps {comparison.history}."
        " KL is of the guided logits along the full cache's tokens, mean over tokens; bytes and "
        "FLOPs are of one image with guidance (two rows), peak memory and times of the compiled "
        f"program that draws {2 * comparison.batch_size} at once. An equal image counts as "
        f"{EQUAL_PSNR:g} dB.\n"
    )
    tables = [_table(comparison.rows) + "\n"]
    if comparison.duels:
        tables.append(
            "Differences of two policies, paired by image, with standard errors; PSNR above and KL "
            "below zero speak for the first.\n"
        )
        header = ("policy", "against", "evicted", "PSNR dB", "KL nats")
        tables.append(markdown_table(header, map(_duel, comparison.duels)) + "\n")
    refused = [f"- {name}: {why}" for name, why in comparison.refused.items()]
    return "\n".join([about, *tables, *refused]) + "\n"


def _table(rows: Sequence[Row]) -> str:
    """The columns that any row knows something of."""
    cells = {title: [show(row) for row in rows] for title, show in COLUMNS.items()}
    known = {title: own for title, own in cells.items() if set(own) != {UNKNOWN}}
    return markdown_table(list(known), zip(*known.values()))


def _known(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _duel(duel: Duel) -> tuple[str, ...]:
    return (
        duel.policy,
        duel.other,
        f"{duel.ratio:.0%}",
        f"{duel.psnr:+.2f} ± {duel.psnr_error:.2f}",
        f"{duel.divergence:+.4f} ± {duel.divergence_error:.4f}",
    )


def curves(comparison: Comparison) -> Figure:
    """Quality against the bytes of the cache, one line per policy."""
    figure = Figure((13, 4.5), layout="constrained")
    measures = {
        "PSNR to the full cache, dB": lambda row: row.psnr,
        "KL to the full cache, nats a token": lambda row: row.divergence,
        "share of equal tokens": lambda row: row.equal_tokens,
    }
    axes = figure.subplots(1, len(measures))
    names = list(dict.fromkeys(row.policy for row in comparison.rows if row.policy != "full"))
    for ax, (title, measure) in zip(axes, measures.items()):
        for index, name in enumerate(names):
            rows = [row for row in comparison.rows if row.policy == name]
            sizes = [max(row.kv_bytes) / MIB for row in rows]
            style = {"color": f"C{index % 10}", "marker": "os^vDP*"[index % 7]}
            ax.plot(sizes, [measure(row) for row in rows], label=name, **style)
        ax.set(xlabel="keys and values of an image, MiB", title=title)
        ax.grid(alpha=0.3)
    axes[1].set_yscale("symlog", linthresh=1e-4)  # a policy may be exact
    axes[-1].legend(fontsize=7)
    return figure


def sample_grid(comparison: Comparison) -> Image.Image:
    """The same images under every policy, one row per policy, the full cache's first."""
    rows = list(comparison.images.items())
    columns = len(rows[0][1])
    images = np.concatenate([drawn for _, drawn in rows])
    enlarge = max(1, 64 // images.shape[1])
    return image_grid(images, columns, [name for name, _ in rows], scale=enlarge)
