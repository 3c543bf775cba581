"""Says what 16-bit compute changes: equal tokens, and how far logits move from float32.

    python tests/bfloat16_parity.py tests/golden/mvar_tiny_a_l2.npz

Each FILE.npz is a VAR or M-VAR as for `tests/conformance.py`, with its weights by the recipe.
"forced" compares the likeliest tokens after the file's own tokens; "free" compares greedy guided
sampling, where a token that differs changes all scales after it. Parameters and the tokenizer stay
in float32, as they do in training. Exits with 2 when a file cannot be read.
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mvar_jax.models import ClassLabels
from tests.conformance_checks.trunk import Run, load_models, training_pair
from tests.reference import ReferenceFile

GUIDANCES = (1.5, 4.0)


def parity(path: Path) -> dict[str, float]:
    """Shares of equal tokens from 0 to 1, and differences of logits relative to their spread."""
    file = ReferenceFile.load(path)
    if file.config.get("kind") not in ("var", "mvar"):
        raise ValueError(f"{path}: not a VAR or M-VAR.")
    trunk, tokenizer, params = load_models(file)
    labels = jnp.asarray(file.config["labels"], jnp.int32)
    inputs, _ = training_pair(file, tokenizer, params["tokenizer"])
    half = trunk.clone(config=replace(trunk.config, compute_dtype="bfloat16"))

    def forced(model):
        logits = jax.jit(model.apply)({"params": params["trunk"]}, ClassLabels(labels), inputs)
        return np.asarray(logits, np.float32)

    full, rough = forced(trunk), forced(half)
    found = {
        "forced": np.mean(full.argmax(-1) == rough.argmax(-1)),
        "rms": np.sqrt(np.mean((rough - full) ** 2)) / full.std(),
        "max": np.abs(rough - full).max() / full.std(),
    }
    runs = [Run(file, model, tokenizer, params, labels) for model in (trunk, half)]
    for guidance in GUIDANCES:
        tokens = [run.greedy_tokens(guidance) for run in runs]
        found[f"free {guidance}"] = np.mean(tokens[0] == tokens[1])
    return found


def main(paths: list[str]) -> int:
    """Prints a line per file; returns the exit code."""
    for path in paths:
        try:
            found = parity(Path(path))
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        values = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        print(f"{Path(path).name}: {values}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
