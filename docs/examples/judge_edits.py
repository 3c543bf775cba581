"""Changes the object of rendered scenes, and judges whether it is what was asked for.

python docs/examples/judge_edits.py runs/shapes edits.png 200
"""

import sys

import mvar_jax
from mvar_jax.evaluation.edit_judge import JudgedEdits, judge_edits, scene_edits
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import edit_grid
from mvar_jax.sampling.editing import paste_back

SHOWN = 12


def main(workdir: str, out: str, count: str) -> JudgedEdits:
    """Edits so many scenes of the test split, prints the figures and writes the first of them."""
    model = mvar_jax.load(workdir)
    texts = model.config.model.condition == "text"
    edits = scene_edits(int(count), model.image_size[0], hues=texts)
    judged = judge_edits(model, edits, batch_size=50)
    print(f"as asked: {judged.right(texts):.3f} of {count}")
    print(f"PSNR of what is kept: {judged.kept_psnr:.2f} dB before pasting")
    print(f"PSNR of its reconstruction: {judged.reconstruction_psnr:.2f} dB")
    source, masks, raw = (x[:SHOWN] for x in (edits.images, edits.masks, judged.images))
    pasted = paste_back(source, raw, masks, model.feather)
    labels = edits.wanted[:SHOWN]
    save_picture(edit_grid(source, masks, raw, pasted, row_labels=labels, scale=2), out)
    return judged


if __name__ == "__main__":
    main(*sys.argv[1:])
