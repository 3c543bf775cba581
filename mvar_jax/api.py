"""Opens trained models, as notebooks do: `mvar_jax.load(workdir).sample(labels)`."""

from pathlib import Path

from absl import logging

from mvar_jax.array_types import in_32_bits
from mvar_jax.checks import check
from mvar_jax.config import ModelConfig
from mvar_jax.data.imagenet_names import imagenet_names
from mvar_jax.models.checksum import checksum
from mvar_jax.sampling import Model, Sampler, Samples, Weights
from mvar_jax.text.encoder import TextEncoder
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
    workdir: str | Path,
    tokenizer: str | Path | None = None,
    *,
    text_encoder: str | Path | TextEncoder | None = None,
    verify: bool = False,
) -> Model:
    """The model of a working directory; its tokenizer may be that of another `tokenizer`.

    Classes that the directory has no names for, as those of imported weights, are named as those of
    ImageNet where they are as many, or else by their indices. A model of texts has none; it reads
    prompts by its `text_encoder`: a folder or "wordllama", as `open_text_encoder` takes them, or
    one that is loaded; by default that of its training. Without one, it draws `TextFeatures` alone.

    Raises ValueError, in one sentence, when there is none, its files are damaged, the two do not
    fit or, with `verify`, there is no seal to tell whether files are damaged, and for a text
    encoder that is none, or of a model of classes.
    """
    directory = Workdir.of(workdir)
    other = directory if tokenizer is None else Workdir.of(tokenizer)
    config = directory.config()
    check(
        text_encoder is None or config.model.condition == "text",
        "text_encoder: the model draws classes, not prompts; leave it out.",
    )
    if tokenizer is not None:
        config = with_tokenizer(config, other.tokenizer.config().tokenizer)
    weights = Weights(
        load_trunk(config, directory, verify=verify), load_tokenizer(config, other, verify=verify)
    )
    check_learned_from(directory, lambda: checksum(weights.tokenizer), other.tokenizer.path)
    return Model(
        config=config,
        class_names=class_names(config.model, directory),
        sampler=Sampler.of(config),
        weights=weights,
        text_encoder=_text_encoder(text_encoder, config.data.text_encoder),
    )


def class_names(model: ModelConfig, workdir: Workdir) -> tuple[str, ...]:
    """The names of a model's classes, none where it is one of texts."""
    if model.condition == "text":
        return ()
    official = () if workdir.names_classes else imagenet_names()
    named = len(official) == model.num_classes
    return official if named else workdir.class_names(model.num_classes)


def _text_encoder(given: str | Path | TextEncoder | None, trained: str) -> TextEncoder | None:
    """The encoder that is given, or by its name or folder, or else that of the training.

    That of the training may have gone since, or was of stored features, which serves few prompts.
    """
    if not isinstance(given, (str, Path)) and (given is not None or not trained):
        return given
    from mvar_jax.convert.text_encoder import open_text_encoder  # noqa: PLC0415  few need it

    try:
        return open_text_encoder(trained if given is None else given)
    except ValueError as error:
        if given is not None:
            raise
        logging.warning("text encoder of the training: %s", error)
        return None
