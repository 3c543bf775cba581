"""The official ImageNet recipes of VAR and M-VAR, as data."""

import math
from dataclasses import dataclass

from ml_collections import ConfigDict

from mvar_jax.config import Config
from mvar_jax.config.files import check_preset
from mvar_jax.config.tree import to_config_dict
from mvar_jax.scales import VAR_512


@dataclass(frozen=True)
class Recipe:
    """What differs by depth (the training commands of VAR's and M-VAR's READMEs)."""

    batch_size: int
    epochs: int
    learning_rate: float  # for 256 images: the peak is this times batch_size / 256
    gate: float  # start of the first two gates
    final_fraction: float  # of the peak learning rate
    final_weight_decay: float


RECIPES = {
    12: Recipe(768, 200, 1e-4, 1e-3, 0.1, 0.05),
    16: Recipe(768, 200, 1e-4, 1e-3, 0.1, 0.05),
    20: Recipe(768, 250, 1e-4, 1e-3, 0.1, 0.05),
    24: Recipe(768, 350, 8e-5, 1e-4, 0.01, 0.05),
    30: Recipe(1024, 350, 8e-5, 1e-5, 0.01, 0.08),
    # Of M-VAR's largest model only the sampling code is public; trained like depth 30.
    32: Recipe(1024, 350, 8e-5, 1e-5, 0.01, 0.08),
    36: Recipe(768, 350, 8e-5, 5e-6, 0.01, 0.08),
}


def sharded_parameters(width: int) -> dict[str, int]:
    """The mesh of a model of which no chip holds the optimizer state.

    Matrices that are split by rows are cut into pieces of whole tiles, 8 rows: others are padded
    and copied wherever they are exchanged. Where that would leave fewer than 16 pieces, too few for
    such models to fit, any size of pieces is taken.
    """
    whole = math.gcd(width // 8, 128)
    return {"data": -1, "fsdp": -1, "max_fsdp": whole if whole >= 16 else math.gcd(width, 128)}


def imagenet256(
    preset: str, pattern: tuple[str, ...], depths: tuple[int, ...], *, file: str
) -> ConfigDict:
    """The config of a preset "dNN": depth NN, width 64 NN, NN heads, trained as published.

    The tokenizer is the official one. Raises ValueError for another preset, naming the config file.
    """
    check_preset(preset, [f"d{depth}" for depth in depths], file)
    depth = int(preset[1:])
    recipe = RECIPES[depth]
    config = to_config_dict(Config())
    config.batch_size = recipe.batch_size
    config.mesh.update(sharded_parameters(64 * depth))
    config.model.update(
        depth=depth,
        width=64 * depth,
        heads=depth,
        pattern=pattern,
        drop_path_rate=0.1 * depth / 24,
        compute_dtype="bfloat16",
        remat="products",
    )
    config.model.init.gate = recipe.gate
    config.optimizer.update(
        learning_rate=recipe.learning_rate,
        final_fraction=recipe.final_fraction,
        final_weight_decay=recipe.final_weight_decay,
    )
    config.training.update(epochs=float(recipe.epochs))
    return config


def imagenet512(
    preset: str, pattern: tuple[str, ...], depths: tuple[int, ...], *, file: str
) -> ConfigDict:
    """The same for 512x512, as VAR's model of that size: one adaLN projection for all blocks.

    The tokenizer is that of 256x256, with other scales. Raises ValueError as `imagenet256` does.
    """
    config = imagenet256(preset, pattern, depths, file=file)
    config.tokenizer.update(image_size=(512, 512), scales=VAR_512.sizes)
    config.model.shared_modulation = True
    return config
