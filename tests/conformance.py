"""Compares the library with reference files, array by array.

    python tests/conformance.py tests/golden/*.npz tests/golden/networks/*.npz

Each FILE.npz describes itself, or needs a `configs.json` beside it that does. The model of the
description is built, its weights are drawn by the recipe of `tests/reference.py` or
`tests/infinity_reference.py`, and every array that the file holds is computed again in float32.
Prints one line an array: its name, the largest absolute error, that error as a share of the array's
largest magnitude, and the absolute error that is allowed, which is ten times the original's own
difference between float32 and float64 or 2e-6 of the largest magnitude. Where the original casts
to bfloat16 while all else is float32, the root mean square of the error is compared with a tenth of
what the cast makes. Integers must be equal; truncated pixels may differ by 1, as the original's do.
Of ScaleKV's equal scores PyTorch keeps arbitrary ones: a `torch` run is computed with the tokens
that the file keeps, after a check that no better one was passed over; `lowest_index` is the
library's own choice. Inputs of single components are taken from the file: GIVEN. No other array is
out of scope: one that cannot be computed is UNCHECKED and counts as a failure. Exits with 1 on any
failure, and with 2 when a file cannot be read.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.conformance_checks import (
    bitwise,
    components,
    inception,
    infinity,
    infinity_blocks,
    lpips,
    metrics,
    rotary,
    scalekv,
    scalekv_functions,
    text,
    tokenizer,
    trunk,
)
from tests.conformance_checks.comparison import Line, compare
from tests.infinity_reference import InfinityFile
from tests.reference import ReferenceFile

# What Infinity's files are of, each kind told by one of its arrays.
INFINITY = {
    "a quantizer": ("grad_probe", bitwise.quantizer, bitwise.GIVEN),
    "a tokenizer": ("recon_unclamped", bitwise.vae, bitwise.GIVEN),
    "filters": (r"v\d+_logits", bitwise.sampling, bitwise.GIVEN),
    "a trunk": ("tf_logits", infinity.compute, infinity.GIVEN),
    "a block": ("block_masked", infinity_blocks.compute, infinity_blocks.GIVEN),
    "runs under ScaleKV": (
        r"\w+/\w+/cache_lengths_before_after",
        scalekv.compute,
        scalekv.GIVEN,
    ),
    "ScaleKV's choices": (
        r"\w[^/]*/\w+/layer\d+_lengths_before_after",
        scalekv_functions.compute,
        scalekv_functions.GIVEN,
    ),
    "rotary angles": ("apply_q", rotary.compute, rotary.GIVEN),
}
KINDS = {"vqvae": tokenizer.compute, "var": trunk.compute, "mvar": trunk.compute}
# Other files are told apart by how some of their arrays begin, in this order.
NETWORKS = {"bucket_index": text, "grid_y_lo": inception, "layers_64": lpips}
METRICS = {
    "diag_fid_exact": metrics.frechet,
    "is0_": metrics.score,
    "kid0_": metrics.kernel,
    "dup_gen": metrics.precision_recall,
    "psnr_": metrics.fidelity,
}
STARTS = {
    **{start: network.compute for start, network in NETWORKS.items()},
    **METRICS,
    **components.COMPONENTS,
}
# Inputs, where they are not those of components.
GIVEN = {network.compute: network.GIVEN for network in NETWORKS.values()}
GIVEN |= {compute: metrics.GIVEN for compute in METRICS.values()}


def check(path: Path) -> list[Line]:
    """The verdict on every array of a file. Raises ValueError for a file of unknown kind."""
    infinity_file = InfinityFile.load(path)
    for mark, make, inputs in INFINITY.values():
        if infinity_file.match(mark):
            return list(compare(infinity_file, make(infinity_file), inputs))
    file = ReferenceFile.load(path)
    kind = file.config.get("kind")
    starts = STARTS.items()
    found = (make for start, make in starts if any(name.startswith(start) for name in file.arrays))
    compute = KINDS.get(kind) or next(found, None)
    if compute is None:
        raise ValueError(f"{path}: neither a model ({', '.join(KINDS)}) nor a known component.")
    given = None if kind in KINDS else GIVEN.get(compute, components.GIVEN)
    return list(compare(file, compute(file), given))


def main(paths: list[str]) -> int:
    """Checks all files and prints what was found; returns the exit code."""
    if not paths:
        print("error: got no file, expected at least one, as tests/golden/*.npz.", file=sys.stderr)
        return 2
    failures = 0
    for path in map(Path, paths):
        try:
            lines = check(path)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        compared = [line.verdict for line in lines if line.verdict != "GIVEN"]
        passed = compared.count("PASS")
        failures += len(compared) - passed
        print(f"{path.name}: {passed} of {len(compared)} arrays pass")
        for line in lines:
            print(f"  {line}")
    print(f"{failures} failures" if failures else "everything passes")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
