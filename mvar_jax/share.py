"""Writes a model as a folder to share, and uploads it to the Hugging Face Hub if told to.

    python -m mvar_jax.share --workdir=runs/digits --repo=OWNER/digits --out=shared --license=mit
    python -m mvar_jax.share ... --dry_run
    python -m mvar_jax.share ... --upload

The folder holds weights as .safetensors, the config, the names of the classes, and a README.md with
the figures of the run's own reports. `load` takes it, and `hf://OWNER/digits` once it is uploaded.
`--dry_run` writes and uploads nothing, and shows what would be.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.convert.export_model import check_out
from mvar_jax.convert.shared_model import CARD, shared_model
from mvar_jax.files import user_path
from mvar_jax.hub import open_workdir, upload


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("workdir", None, "Directory of a trained model.", required=True)
    cli.define_verify()
    flags.DEFINE_string("repo", None, "Its name on the Hub, OWNER/NAME.", required=True)
    flags.DEFINE_string("out", None, "Folder to write, a new one.", required=True)
    flags.DEFINE_string("license", None, "Licence of the weights, as mit.", required=True)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the weights.")
    flags.DEFINE_bool("upload", False, "Upload the folder too; needs a token that may write.")
    flags.DEFINE_bool("private", False, "Create the repository as a private one.")
    flags.DEFINE_bool("dry_run", False, "Write and upload nothing, show what would be.")
    flags.DEFINE_alias("dry-run", "dry_run")


def main() -> None:
    """Writes the folder, and uploads it if told to."""
    values, out = flags.FLAGS, user_path(flags.FLAGS.out)
    check_out(out)
    model = shared_model(
        open_workdir(values.workdir),
        repository=values.repo,
        license_name=values.license,
        dtype=values.dtype,
        verify=cli.get_verify(),
    )
    sizes = model.sizes()
    for name, size in sizes.items():
        print(f"{size:>14,}  {name}")
    if values.dry_run:
        what = f" and uploaded to hf://{values.repo}" if values.upload else ""
        print(f"\n{model.texts[CARD]}\nNothing was written. It would be to {out}{what}.")
        return
    model.write(out)
    print(f"Wrote {out}, {sum(sizes.values()):,} bytes; read its {CARD}.")
    if values.upload:
        print(f"Uploaded {upload(out, values.repo, private=values.private)}.", flush=True)
    else:
        print(f"Upload it by --upload, or by: hf upload {values.repo} {out}")


if __name__ == "__main__":
    cli.run(main, define_flags)
