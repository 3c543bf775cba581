"""Changes the object of rendered scenes, and judges whether it is what was asked for.

python docs/examples/judge_edits.py runs/shapes edits.png 200 strength=1 guidance=1
"""

import sys
from ast import literal_eval

import mvar_jax
from mvar_jax.evaluation.edit_judge import JudgedEdits, judge_edits, scene_edits
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import edit_grid

SHOWN = 12


def main(workdir: str, out: str, count: str, *settings: str) -> JudgedEdits:
    """Edits so many scenes of the test split, prints the figures and writes the first of them."""
    model = mvar_jax.load(workdir)
    texts = model.config.model.condition == "text"
    edits = scene_edits(int(count), model.image_size[0], hues=texts)
    choice = {name: literal_eval(value) for name, value in (one.split("=") for one in settings)}
    judged = judge_edits(model, edits, batch_size=50, **choice)
    print(f"as asked: {judged.right(texts):.3f} of {count}")
    print(f"PSNR of what is kept: {judged.kept_psnr:.2f} dB before pasting")
    print(f"PSNR of its reconstruction: {judged.reconstruction_psnr:.2f} dB")
    columns = (edits.images, edits.masks, judged.drawn, judged.images)
    shown, labels = (column[:SHOWN] for column in columns), edits.wanted[:SHOWN]
    save_picture(edit_grid(*shown, row_labels=labels, scale=2), out)
    return judged


if __name__ == "__main__":
    main(*sys.argv[1:])
