"""The speed of a sampler: whole images, trunk and decoder apart, scale by scale."""

import statistics
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mvar_jax.benchmark.batches import Official, measure_batches
from mvar_jax.benchmark.placed import by_image, check_fits
from mvar_jax.compilation.report import total_cost
from mvar_jax.compilation.sampling_check import sampling_parts
from mvar_jax.config import Config
from mvar_jax.evaluation.programs import alternate, compile_timed, timed
from mvar_jax.models import build_trunk, example_condition
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Request, Sampler, Weights, generate
from mvar_jax.sampling.generate import begin, decode, draw_scale
from mvar_jax.tokenizers import build_tokenizer

COLUMNS = {
    "batch": ("images", "d"),
    "images_per_second": ("images/s", ".3g"),
    "seconds": ("s", ".3f"),
    "seconds_trunk": ("trunk s", ".3f"),
    "seconds_decoder": ("decoder s", ".3f"),
    "share_of_matmul": ("of matmul", ".0%"),
    "share_of_copy": ("of copy", ".0%"),
    "compile_seconds": ("compile s", ".1f"),
    "peak_bytes": ("bytes", ".3g"),
    "ratio_to_reference": ("official / ours", ".2f"),
    "ratio_trunk": ("of trunk", ".2f"),
    "ratio_decoder": ("of decoder", ".2f"),
}


def main() -> None:
    """The command `sample`."""
    measure_batches("sample", COLUMNS, measure_sampling)


class PartSeconds(NamedTuple):
    """One run: seconds of the whole, and of the decoder in it."""

    whole: float
    decoder: float

    @property
    def trunk(self) -> float:
        """What is left for the trunk and the tokens."""
        return self.whole - self.decoder


def measure_sampling(
    config: Config, weights: Weights, batch: int, repeats: int, official: Official | None
) -> dict[str, Any]:
    """A row of medians over `repeats` runs of `batch` images; every image has two rows of tokens.

    FLOPs and bytes are of one device, by the compiler, from programs of the parts, since it counts
    what a loop repeats once. Other runs of the same weights, by `official`, alternate with ours.
    Raises ValueError for a batch that does not fit into memory.
    """
    trunk, tokenizer = build_trunk(config), build_tokenizer(config.tokenizer)
    sampler = Sampler(trunk, tokenizer, smooth=config.sampling.smooth)
    request = _request(config, batch)
    whole, compile_seconds = compile_timed(generate, sampler, weights, request)
    memory = check_fits(whole, batch)
    running = _begin(sampler, weights, request).running
    decoder = _decode.lower(sampler, weights, running).compile()

    def ours():
        return timed(partial(whole, weights, request)), timed(partial(decoder, weights, running))

    runs = alternate({"ours": ours} | ({"official": official} if official else {}), repeats)
    own, spread = _medians(runs["ours"]), [seconds for seconds, _ in runs["ours"]]
    cost = total_cost(sampling_parts(replace(config, batch_size=batch), None, {})[0])
    row = {
        "images_per_second": batch / own.whole,
        "seconds": own.whole,
        "seconds_spread": [min(spread), max(spread)],
        "seconds_trunk": own.trunk,
        "seconds_decoder": own.decoder,
        "milliseconds_per_scale": _scales(sampler, weights, request, repeats),
        "compile_seconds": compile_seconds,
        "peak_bytes": memory.peak,
        "flops": cost.flops,
        "bytes_moved": cost.bytes_moved,
        "ratio_to_reference": None,
    }
    if official:
        other = _medians(runs["official"])
        row |= {
            "ratio_to_reference": other.whole / own.whole,
            "ratio_trunk": other.trunk / own.trunk,
            "ratio_decoder": other.decoder / own.decoder,
            "reference_seconds": other.whole,
            "reference_seconds_trunk": other.trunk,
            "reference_seconds_decoder": other.decoder,
        }
    return row


_begin = jax.jit(begin, static_argnames="sampler")
_decode = jax.jit(decode, static_argnames="sampler")


def _request(config: Config, batch: int) -> Request:
    """`batch` images of the first class, or of empty texts of the most tokens."""
    keys = image_keys(0, np.arange(batch, dtype=np.uint32))
    condition, keys = by_image((example_condition(config.model, batch), keys))
    return Request(condition, keys, Filters.of(config.sampling, len(config.tokenizer.scales)))


def _medians(runs: list[tuple[float, float]]) -> PartSeconds:
    return PartSeconds(*(statistics.median(column) for column in zip(*runs)))


def _scales(sampler: Sampler, weights: Weights, request: Request, repeats: int) -> list[float]:
    """Median milliseconds of every scale, each in a program of its own."""
    draw = jax.jit(draw_scale, static_argnames=("sampler", "scale"))
    carried, milliseconds = _begin(sampler, weights, request), []
    for scale in range(len(sampler.scales)):
        run = partial(draw, sampler, weights, request, carried, scale)
        carried = run()[0]
        milliseconds.append(1e3 * statistics.median(timed(run) for _ in range(repeats)))
    return milliseconds
