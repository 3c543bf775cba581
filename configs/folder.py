"""VAR and M-VAR on a folder of your own images, one folder per class.

    python -m mvar_jax.train_tokenizer --config=configs/folder.py:var64 \
        --config.data.directory=photos --workdir=runs/photos
    python -m mvar_jax.train --config=configs/folder.py:var64 \
        --config.data.directory=photos --workdir=runs/photos

The presets, and the models, are those of `configs/shapes.py`.
"""

from mvar_jax.config.files import load_config


def get_config(preset: str = "var64"):
    """The config of a model and an image size, or of a smoke run."""
    config = load_config(f"shapes.py:{preset}", file="folder.py")
    config.data.update(name="folder", augmentation="crop", num_threads=16)
    config.model.num_classes = 0  # as many as there are folders
    return config
