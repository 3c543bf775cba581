"""Converts official weights of VAR, M-VAR, Infinity and their tokenizers, both ways.

    python -m mvar_jax.convert import --checkpoint=hf://OWNER/var/var_d16.pth --out=runs/var_d16
    python -m mvar_jax.convert import --checkpoint=vae_ch160v4096z32.pth --out=runs/var_d16
    python -m mvar_jax.convert import --checkpoint=infinity_8b_weights --out=runs/infinity_8b
    python -m mvar_jax.convert export --workdir=runs/var_d16 --out=var_d16.safetensors
    python -m mvar_jax.convert export --for=sampling --workdir=runs/digits --out=digits

A directory that got a trunk and a tokenizer is sampled from and fine-tuned like any other.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.convert.export_model import export_model
from mvar_jax.convert.export_weights import SUFFIXES, export_weights
from mvar_jax.convert.find_model import ARCHITECTURES
from mvar_jax.convert.import_weights import import_weights
from mvar_jax.files import user_path
from mvar_jax.hub import WEIGHT_FILES, local_path, open_workdir
from mvar_jax.scales import ScaleSchedule
from mvar_jax.workdir import Workdir


def define_import() -> None:
    """Defines the flags of the command `import`."""
    _define_both()
    flags.DEFINE_string("checkpoint", None, "A .pth, .safetensors or folder.", required=True)
    flags.DEFINE_list("schedule", None, "Sides of the scales in tokens, 1,2,3 and so on.")


def define_export() -> None:
    """Defines the flags of the command `export`."""
    _define_both()
    flags.DEFINE_string("workdir", None, "Directory of the model.", required=True)
    cli.define_verify()
    cli.define_adapters()
    flags.DEFINE_enum("for", None, ["sampling"], "Write a directory for that, not one file.")


def main_import() -> None:
    """Converts official weights to ours, and says what."""
    out, values = Workdir.of(flags.FLAGS.out), flags.FLAGS
    checkpoint = local_path(values.checkpoint, WEIGHT_FILES)
    what = import_weights(checkpoint, out, values.arch, schedule=_schedule())
    print(f"{values.out}: {what}.")


def main_export() -> None:
    """Converts our weights to official ones, or copies what sampling needs, and says what."""
    values = flags.FLAGS
    workdir, adapters = open_workdir(values.workdir), cli.get_adapters()
    if values["for"].value is None:
        out = cli.output_file(*SUFFIXES)
        what = export_weights(workdir, out, values.arch, adapters=adapters, verify=cli.get_verify())
    else:
        check(values.arch is None, "--arch: got one with --for, which takes all; leave it out.")
        what = export_model(workdir, user_path(values.out), adapters, verify=cli.get_verify())
    print(f"{values.out}: {what}.")


COMMANDS = {"import": (main_import, define_import), "export": (main_export, define_export)}


def _define_both() -> None:
    flags.DEFINE_string("out", None, "What to write.", required=True)
    flags.DEFINE_enum("arch", None, ARCHITECTURES, "The model, where there are several.")


def _schedule() -> ScaleSchedule | None:
    if flags.FLAGS.schedule is None:
        return None
    sides = cli.get_numbers("schedule", lambda side: side > 0 and side % 1 == 0, "sides as 1,2,3")
    return ScaleSchedule.squares(*map(int, sides))


if __name__ == "__main__":
    cli.run_command(COMMANDS)
