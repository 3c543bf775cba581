"""Small models of every official architecture."""

from mvar_jax.config import ModelConfig, SSMConfig, TextConfig, TokenizerConfig
from mvar_jax.config.infinity import MODEL
from mvar_jax.convert.state_dict import tokenizer_state, trunk_state
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tensor_files.safetensors import write_safetensors
from tests.convert import files
from tests.reference import recipe_array

SCHEDULE = ScaleSchedule.squares(1, 2)
VOCABULARY, CODE = 24, 4


def trunk(architecture, **changes):
    """A trunk of two blocks."""
    pattern = {"mvar": "scale+ssm", "var": "history"}[architecture]
    ssm = SSMConfig(state_size=8, head_dim=32) if architecture == "mvar" else SSMConfig()
    config = ModelConfig(
        num_classes=3, depth=2, width=64, heads=1, pattern=(pattern,), ssm=ssm, **changes
    )
    return Trunk(config, SCHEDULE, VOCABULARY, CODE)


def text_trunk(depth=2, schedule=SCHEDULE, bits=5, levels=4):
    """A trunk of texts, with levels for more scales than it has."""
    text, size = TextConfig(32, 20), {"depth": depth, "width": 32, "heads": 2, "mlp_ratio": 2.5}
    config = ModelConfig(**MODEL, **size, levels=levels, text=text)
    return Trunk(config, schedule, 2 * bits, bits)


def tokenizer(**changes):
    """A tokenizer of two levels, as few channels as its groups allow."""
    return TokenizerConfig(
        image_size=(4, 4),
        scales=SCHEDULE.sizes,
        vocabulary=VOCABULARY,
        code_channels=CODE,
        base_channels=32,
        channel_multipliers=(1, 2),
        blocks_per_level=1,
        **changes,
    )


def bitwise(**changes):
    """A bitwise tokenizer of the same size; with four levels a token folds 2 x 2 positions."""
    values = {
        "quantizer": "bsq",
        "image_size": (4, 4),
        "scales": SCHEDULE.sizes,
        "code_channels": 5,
        "base_channels": 32,
        "channel_multipliers": (1, 2),
        "blocks_per_level": 1,
        "attention": False,
    }
    return TokenizerConfig(**values | changes)


TRUNKS = {
    "mvar": trunk("mvar"),
    "mvar without norm": trunk("mvar", qk_norm=False),
    "mvar shared": trunk("mvar", shared_modulation=True),
    "var": trunk("var"),
    "var without norm": trunk("var", qk_norm=False),
    "var shared": trunk("var", shared_modulation=True),
    "infinity": text_trunk(),
    "infinity in a single chunk": text_trunk(depth=3),
}
TOKENIZERS = {
    "vqvae": tokenizer(),
    "vqvae with one convolution": tokenizer(shared_convolutions=1),
    "vqvae with one a scale": tokenizer(shared_convolutions=0),
    "bsqvae": bitwise(),
    "bsqvae that folds": bitwise(
        image_size=(32, 32), channel_multipliers=(1, 1, 1, 1), patch=2, code_channels=3
    ),
    "bsqvae of 64 bits": bitwise(code_channels=64),
}
MODELS = TRUNKS | TOKENIZERS


def state_of(model):
    """The official state dict of a model, as a list."""
    return trunk_state(model) if isinstance(model, Trunk) else tokenizer_state(model)


def entries_of(model):
    """How its parameters map."""
    return trunk_entries(model) if isinstance(model, Trunk) else tokenizer_entries(model)


def official_weights(model):
    """A whole official state dict: parameters drawn by their names, and buffers."""
    return {
        name: recipe_array(name, item.shape) if item.is_parameter else item.make({})
        for name, item in state_of(model).items()
    }


def write_official(path, weights):
    """A file of weights, in the format that its name says; returns the path."""
    if path.suffix == ".pth":
        return files.write_pth(path, weights)
    about = {name: (array.shape, array.dtype) for name, array in weights.items()}
    write_safetensors(path, about, weights.items())
    return path
