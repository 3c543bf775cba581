"""Checks a dataset before anything is trained on it: what it holds, and how batches look.

    python -m mvar_jax.check_data --config=configs/folder.py:var64 \
        --config.data.directory=photos --out=check

Says of the training and the validation split how many images every class has, how large they are,
what cannot be read, is passed over or is there twice. Writes contact_sheet.png, of the images as
they are, and batch.png, of the first ones that a training reads, into --out.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.data.source import open_split
from mvar_jax.data.survey import survey_split
from mvar_jax.evaluation.dataset_report import contact_sheet, first_batch, report
from mvar_jax.files import user_path
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.image_files import save_picture


def define_flags() -> None:
    """Defines the flags of this program."""
    cli.define_config()
    flags.DEFINE_string("out", None, "Folder to write into; made if missing.", required=True)


def main() -> None:
    """Reads every image, says what it found, and draws."""
    config, out = cli.get_config(), user_path(flags.FLAGS.out)
    check(out.is_dir() or not out.exists(), f"--out: {out} is a file, expected a folder.")
    data = config.data
    names = dict.fromkeys((data.train_split, data.validation_split))
    splits = [open_split(data.name, n, data.directory, captions=data.captions) for n in names]
    surveys = []
    for split in splits:
        with TaskProgress(f"check {split.name}", len(split.records), "image") as progress:
            surveys.append(survey_split(split, data.num_threads, progress.advance))
    print(report(surveys, data, config.tokenizer.image_size))
    if surveys[0].counts().any():
        save_picture(contact_sheet(surveys[0]), out / "contact_sheet.png")
    for survey in surveys:
        survey.check_readable()
    save_picture(first_batch(config), out / "batch.png")
    print(f"Wrote contact_sheet.png and batch.png into {out}.")


if __name__ == "__main__":
    cli.run(main, define_flags)
