"""Opens trained models, as notebooks do: `mvar_jax.load(workdir).sample(labels)`."""

from pathlib import Path

from mvar_jax.array_types import in_32_bits
from mvar_jax.data.imagenet_names import imagenet_names
from mvar_jax.models import build_trunk
from mvar_jax.models.checksum import checksum
from mvar_jax.sampling import Model, Sampler, Samples, Weights
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.weights import (
    check_learned_from,
    load_tokenizer,
    load_trunk,
    with_tokenizer,
)
from mvar_jax.workdir import Workdir

__all__ = ["Model", "Samples", "load"]


@in_32_bits
def load(
    workdir: str | Path, tokenizer: str | Path | None = None, *, verify: bool = False
) -> Model:
    """The model of a working directory; its tokenizer may be that of another `tokenizer`.

    Classes that the directory has no names for, as those of imported weights, are named as those of
    ImageNet where they are as many, or else by their indices.

    Raises ValueError, in one sentence, when there is none, its files are damaged, the two do not
    fit or, with `verify`, there is no seal to tell whether files are damaged.
    """
    directory = Workdir.of(workdir)
    other = directory if tokenizer is None else Workdir.of(tokenizer)
    config = directory.config()
    if tokenizer is not None:
        config = with_tokenizer(config, other.tokenizer.config().tokenizer)
    weights = Weights(
        load_trunk(config, directory, verify=verify), load_tokenizer(config, other, verify=verify)
    )
    check_learned_from(directory, lambda: checksum(weights.tokenizer), other.tokenizer.path)
    count, official = config.model.num_classes, () if directory.names_classes else imagenet_names()
    names = official if len(official) == count else directory.class_names(count)
    sampler = Sampler(build_trunk(config), build_tokenizer(config.tokenizer))
    return Model(config, names, sampler, weights)
