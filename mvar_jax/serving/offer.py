"""What the page needs to know of a model before it is loaded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mvar_jax.cache import EVICTING
from mvar_jax.checks import check
from mvar_jax.config import SamplingConfig
from mvar_jax.hub import open_workdir
from mvar_jax.models import build_trunk
from mvar_jax.sampling.editing import STRENGTH, THRESHOLD
from mvar_jax.serving.limits import most_images
from mvar_jax.training.adapted import whole_classes


@dataclass(frozen=True)
class Offer:
    """A model as its config describes it; nothing is computed and no weights are read."""

    workdir: str  # as the command line names it
    texts: bool  # whether it draws prompts, not classes
    class_names: tuple[str, ...]
    image_size: tuple[int, int]  # height and width in pixels
    rotary: bool  # whether it draws other aspect ratios
    remembers: bool  # whether it has an attention cache that policies compress
    feather: float  # pixels over which edits fade in by default
    most_images: int  # of one request
    sampling: SamplingConfig
    strength: float = STRENGTH
    threshold: float = THRESHOLD

    @classmethod
    def of(cls, workdir: str) -> "Offer":
        """The model of a working directory. Raises ValueError where there is none."""
        directory = open_workdir(workdir)
        config = directory.config()
        check(
            directory.is_trained,
            f"{directory.checkpoints}: holds no checkpoint, expected those of a trained model; "
            "name its working directory.",
        )
        height, width = config.tokenizer.image_size
        return cls(
            workdir=workdir,
            texts=config.model.condition == "text",
            class_names=whole_classes(directory),
            image_size=(height, width),
            rotary=config.model.positions == "rotary",
            remembers=build_trunk(config).attention_shape.layers > 0,
            feather=config.tokenizer.stride / 2,
            sampling=config.sampling,
            most_images=most_images((height, width)),
        )


def describe(offers: Sequence[Offer]) -> dict:
    """The offers and the cache policies that there are, as plain values."""
    policies = [*EVICTING, "full+int8", *(f"{name}+int8" for name in EVICTING)]
    return {"models": [asdict(offer) for offer in offers], "policies": policies}
