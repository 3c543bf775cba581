r"""Draws a part of an image anew: what is white in a mask, for a label or a prompt.

    python -m mvar_jax.edit --workdir=runs/shapes --image=in.png --mask=mask.png --label=star \
        --out=out.png

A model of texts takes `--prompt`; without either it is drawn without a condition. Outside of the
mask the output has the pixels of the input, exactly; `--nopaste` leaves them to the decoder.
The coarsest quarter of the scales is kept: `--strength=1` draws all. `--source_label` (or
`--source_prompt`) says what the image shows: the noise is found under which it would be drawn, and
used, to keep layout.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check, check_seed
from mvar_jax.cli import asked
from mvar_jax.files import input_path
from mvar_jax.pictures.canvas import Canvas
from mvar_jax.pictures.image_files import KINDS, save_picture
from mvar_jax.sampling.editing import STRENGTH, THRESHOLD


def define_flags() -> None:
    """Defines the flags of this program."""
    asked.define_model()
    asked.define_subjects()
    cli.define_verify()
    flags.DEFINE_string("image", None, "The image to edit.", required=True)
    flags.DEFINE_string("mask", None, "An image: what is white in it is drawn anew.")
    flags.DEFINE_string("out", None, "A .png, .jpg or .webp to write.", required=True)
    flags.DEFINE_integer("seed", 0, "Seed of the randomness.", lower_bound=0)
    flags.DEFINE_float("strength", STRENGTH, "Share of the scales to draw.", 0.0, 1.0)
    flags.DEFINE_float("threshold", THRESHOLD, "Tokens whiter than that are drawn.", 0.0, 1.0)
    flags.DEFINE_bool("paste", True, "Keep the input's own pixels outside of the mask.")
    flags.DEFINE_float("feather", None, "Pixels over which the edge fades.", lower_bound=0.0)
    cli.define_policy()
    cli.define_settings(batch=None)


def main() -> None:
    """Edits and writes."""
    values = flags.FLAGS
    check_seed(values.seed)
    sources = cli.given("source_label", "source_prompt")
    check(
        values.mask is not None or values.strength < 1 or bool(sources),
        "--strength: got 1 without --mask or --source_label, expected one of them or less: nothing "
        "of the image would stay.",
    )
    out = cli.output_file(*KINDS)
    files = [input_path(name) for name in (values.image, values.mask) if name is not None]
    check(
        not any(out.exists() and out.samefile(file) for file in files),
        f"--out: {values.out} is the image or the mask itself, expected another file; name one.",
    )
    canvas, policy = Canvas.read(*files), cli.get_policy()
    print("Loading the model.", flush=True)
    model = asked.get_model()
    if policy:
        model = model.compressed(**policy)
    subject, source = asked.get_subject(model), asked.get_subject(model, "source_")
    free = "No label or prompt: it is drawn without a condition." if subject is None else ""
    for sentence in filter(None, (canvas.said, canvas.describe_fit(model.image_size), free)):
        print(sentence, flush=True)
    settings = cli.get_settings(model.config.tokenizer.vocabulary)
    images, masks = canvas.fitted(model.image_size)
    choice = {"strength": values.strength, "threshold": values.threshold, "paste": False}
    if source is not None:
        choice["noise"] = model.invert(images, source, values.seed, **settings)
    drawn = model.edit(images, masks, subject, values.seed, **choice, **settings).images[0]
    feather = model.feather if values.feather is None else values.feather
    save_picture(canvas.finished(drawn, paste=values.paste, feather=feather), out)
    print(f"Wrote {values.out}.")


if __name__ == "__main__":
    cli.run(main, define_flags)
