"""The speed of a sampler: whole images, trunk and decoder apart, scale by scale."""

import statistics
from functools import partial
from typing import Any

import jax

from mvar_jax.benchmark.batches import Case, measure_batches
from mvar_jax.benchmark.placed import check_fits, example_request
from mvar_jax.benchmark.seconds import alternating, spread_columns, timing_columns
from mvar_jax.compilation.report import total_cost
from mvar_jax.compilation.sampling_check import sampling_parts
from mvar_jax.evaluation.programs import compile_timed, timed
from mvar_jax.sampling import Request, Sampler, Weights, generate
from mvar_jax.sampling.generate import begin, decode, draw_scale

COLUMNS = {
    "batch": ("images", "d"),
    "images_per_second": ("images/s", ".3g"),
    "seconds": ("s", ".3f"),
    "seconds_trunk": ("trunk s", ".3f"),
    "seconds_decoder": ("decoder s", ".3f"),
    "share_of_matmul": ("of matmul", ".0%"),
    "share_of_copy": ("of copy", ".0%"),
    "compile_seconds": ("compile s", ".1f"),
    "peak_bytes": ("memory", "memory"),
    "ratio_to_reference": ("official / ours", ".2f"),
    "ratio_trunk": ("of trunk", ".2f"),
    "ratio_decoder": ("of decoder", ".2f"),
}


def main() -> None:
    """The command `sample`."""
    measure_batches("sample", COLUMNS, measure_sampling)


def measure_sampling(case: Case) -> dict[str, Any]:
    """A row of medians; every image has two rows of tokens.

    FLOPs and bytes are of one device, by the compiler, from programs of the parts, since it counts
    what a loop repeats once. Raises ValueError for a batch that does not fit into memory.
    """
    sampler, weights, batch = Sampler.of(case.config), case.weights, case.config.batch_size
    request = example_request(case.config, batch)
    whole, compile_seconds = compile_timed(generate, sampler, weights, request)
    memory = check_fits(whole, batch)
    running = _begin(sampler, weights, request).running
    decoder = _decode.lower(sampler, weights, running).compile()

    def ours():
        return timed(partial(whole, weights, request)), timed(partial(decoder, weights, running))

    runs = alternating(ours, case.official, case.repeats)
    spread = spread_columns([run.whole for run in runs["ours"]])
    cost = total_cost(sampling_parts(case.config, None, {})[0])
    return {
        "images_per_second": batch / spread["seconds"],
        **spread,
        **timing_columns(runs, part="decoder", rest="trunk"),
        "milliseconds_per_scale": _scales(sampler, weights, request, case.repeats),
        "compile_seconds": compile_seconds,
        "peak_bytes": memory.peak,
        "flops": cost.flops,
        "bytes_moved": cost.bytes_moved,
    }


_begin = jax.jit(begin, static_argnames="sampler")
_decode = jax.jit(decode, static_argnames="sampler")


def _scales(sampler: Sampler, weights: Weights, request: Request, repeats: int) -> list[float]:
    """Median milliseconds of every scale, each in a program of its own."""
    draw = jax.jit(draw_scale, static_argnames=("sampler", "scale"))
    carried, milliseconds = _begin(sampler, weights, request), []
    for scale in range(len(sampler.scales)):
        run = partial(draw, sampler, weights, request, carried, scale)
        carried = run()[0]
        milliseconds.append(1e3 * statistics.median(timed(run) for _ in range(repeats)))
    return milliseconds
