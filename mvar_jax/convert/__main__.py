"""Converts official weights of VAR, M-VAR and their VQVAE, both ways.

    python -m mvar_jax.convert import --checkpoint=var_d16.pth --out=runs/var_d16
    python -m mvar_jax.convert import --checkpoint=vae_ch160v4096z32.pth --out=runs/var_d16
    python -m mvar_jax.convert export --workdir=runs/var_d16 --out=var_d16.safetensors

A directory that got a trunk and a tokenizer can be sampled from, and fine-tuned by --init.
"""

import sys
from pathlib import Path

from absl import flags

from mvar_jax import cli
from mvar_jax.convert.export_weights import export_weights
from mvar_jax.convert.import_weights import import_weights
from mvar_jax.convert.tensor_file import ARCHITECTURES
from mvar_jax.scales import ScaleSchedule
from mvar_jax.workdir import Workdir

COMMANDS = ("import", "export")
COMMAND = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
if COMMAND in COMMANDS:
    OUT = flags.DEFINE_string("out", None, "What to write.", required=True)
    ARCH = flags.DEFINE_enum("arch", None, ARCHITECTURES, "The model, where there are several.")
else:  # the command is what is wrong, not its flags
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument.startswith("--help")]
if COMMAND == "export":
    WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the model.", required=True)
if COMMAND == "import":
    CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A .pth or .safetensors.", required=True)
    SCHEDULE = flags.DEFINE_list(
        "schedule", None, "Sides of a tokenizer's scales in tokens, 1,2,3 and so on."
    )


def main() -> None:
    """Converts, and says what."""
    if COMMAND not in COMMANDS:
        raise ValueError(f"got the command {COMMAND!r}, expected one of {', '.join(COMMANDS)}.")
    out = Path(OUT.value).expanduser()
    if COMMAND == "export":
        what = export_weights(Workdir.of(WORKDIR.value), out, ARCH.value)
    else:
        what = import_weights(
            Path(CHECKPOINT.value).expanduser(), Workdir.of(out), ARCH.value, schedule=_schedule()
        )
    print(f"{OUT.value}: {what}.")


def _schedule() -> ScaleSchedule | None:
    if SCHEDULE.value is None:
        return None
    if not all(side.strip().isdecimal() for side in SCHEDULE.value):
        raise ValueError(f"--schedule: got {','.join(SCHEDULE.value)}, expected sides as 1,2,3.")
    return ScaleSchedule.squares(*map(int, SCHEDULE.value))


if __name__ == "__main__":
    cli.run(main)
