"""Whether a state dict and a model fit, in both directions."""

from collections.abc import Mapping

from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.find_tokenizer import find_tokenizer
from mvar_jax.convert.find_trunk import PATTERNS, find_trunk
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.state_dict import Item, tokenizer_state, trunk_state
from mvar_jax.models import Trunk
from mvar_jax.tensor_files.stored_tensor import FLOATS, StoredTensor

# What a state dict cannot hold, so that reading it back would take the default.
TRUNK_FIELDS = (
    "condition",
    "positions",
    "shared_modulation",
    "heads",
    "mlp_ratio",
    "norm_epsilon",
)
TOKENIZER_FIELDS = ("norm_groups", "residual_ratio", "normalize_codes", "patch", "attention")


def check_tensors(tensors: Mapping[str, StoredTensor], state: Mapping[str, Item]) -> None:
    """Raises ValueError, for the first difference, unless the tensors are those of the state dict.

    Buffers may be missing, as they follow from the rest; parameters may have 16 bits.
    """
    for name, item in state.items():
        if name not in tensors:
            check(not item.is_parameter, f"the tensor {name} of shape {item.shape} is missing")
            continue
        shape, dtype = tensors[name].shape, tensors[name].dtype
        check(shape == item.shape, f"{name} has shape {shape}, expected {item.shape}")
        check(
            dtype in FLOATS or not item.is_parameter,
            f"{name} has dtype {dtype}, expected float32, float16 or bfloat16",
        )
    for name in tensors:
        check(name in state, f"{name} belongs to no such model as the other tensors make")


def official_architecture(trunk: Trunk) -> str:
    """The official architecture: "mvar", "var" or "infinity".

    Raises ValueError for a trunk that no official model is like.
    """
    pattern = set(trunk.config.pattern)
    names = [name for name, official in PATTERNS.items() if pattern == set(official)]
    check(
        len(names) == 1,
        f"model.pattern: got {trunk.config.pattern}, but official models are of {PATTERNS} only; "
        "no official file can hold this model.",
    )
    check(
        names == ["infinity"]  # whose files hold no scales
        or all(height == width for height, width in trunk.schedule.sizes),
        f"tokenizer.scales: got {trunk.schedule.sizes}, but official models have square scales; "
        "no official file can hold this model.",
    )
    shapes = Shapes({name: item.shape for name, item in trunk_state(trunk).items()})
    found = find_trunk(names[0], shapes, trunk.schedule)
    _check_fields("model", trunk.config, found.config, TRUNK_FIELDS)
    _check_fields("model", trunk, found, ("levels", "logits"))
    return names[0]


def check_official_tokenizer(config: TokenizerConfig) -> None:
    """Raises ValueError for a tokenizer that no official file can hold."""
    shapes = Shapes({name: item.shape for name, item in tokenizer_state(config).items()})
    found = find_tokenizer(shapes, config.schedule)
    _check_fields("tokenizer", config, found, TOKENIZER_FIELDS)


def _check_fields(group: str, given, found, fields: tuple[str, ...]) -> None:
    for field in fields:
        got, expected = getattr(given, field), getattr(found, field)
        check(
            got == expected,
            f"{group}.{field}: got {got!r}, but an official file cannot say so and would be read "
            f"as {expected!r}; no official file can hold this model.",
        )
