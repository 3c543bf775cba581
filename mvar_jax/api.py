"""Opens trained models, as notebooks do: `mvar_jax.load(workdir).sample(labels)`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import logging

from mvar_jax.array_types import in_32_bits
from mvar_jax.checks import check
from mvar_jax.config import MeshConfig
from mvar_jax.hub import open_workdir
from mvar_jax.mesh.sharding import host_devices, make_mesh
from mvar_jax.sampling import Model, Sampler, Samples, Weights
from mvar_jax.sampling.stored_name import StoredName
from mvar_jax.text.encoder import TextEncoder
from mvar_jax.training.adapted import Adapters, WholeTrunk, load_whole_trunk
from mvar_jax.training.weights import check_learned_from, load_tokenizer, with_tokenizer

__all__ = ["Model", "Samples", "load"]


@in_32_bits
def load(
    workdir: str | Path,
    tokenizer: str | Path | None = None,
    *,
    adapters: Adapters = (),
    base: str | Path | None = None,
    text_encoder: str | Path | TextEncoder | None = None,
    verify: bool = False,
) -> Model:
    """The model of a working directory; its tokenizer may be that of another `tokenizer`.

    Both, and the text encoder, may be on the Hugging Face Hub: `hf://OWNER/NAME[@REVISION]`.
    Low-rank `adapters` of the model are merged into it, each named by the working directory of its
    training, and perhaps weighted, as in `{"runs/a": 1.0, "runs/b": 0.5}`. `workdir` may be that of
    an adapter too, whose `base` is where it was in training unless it is given. New classes of
    adapters come behind those of the base.

    Classes that the directory has no names for, as those of imported weights, are named as those of
    ImageNet where they are as many, or else by their indices. A model of texts has none; it reads
    prompts by its `text_encoder`: a folder or "wordllama", as `open_text_encoder` takes them, or
    one that is loaded; by default that of its training. Without one, it draws `TextFeatures` alone.

    Where the model computes in 16 bits, kernels are held in them (`models.narrowing`), for which
    no result changes: training starts from `training.weights.load_trunk` instead.

    Raises ValueError, in one sentence, when there is none, its files are damaged, the two do not
    fit or, with `verify`, there is no seal to tell whether files are damaged, and for a text
    encoder that is none, or of a model of classes.
    """
    directory = open_workdir(workdir)
    check(
        text_encoder is None or directory.config().model.condition == "text",
        "text_encoder: the model draws classes, not prompts; leave it out.",
    )
    whole = partial(
        load_whole_trunk,
        directory,
        adapters,
        base=None if base is None else open_workdir(base),
        verify=verify,
    )
    trunk = whole(narrow=True)
    config, other = trunk.config, trunk.base if tokenizer is None else open_workdir(tokenizer)
    if tokenizer is not None:
        config = with_tokenizer(config, other.tokenizer.config().tokenizer)
    weights = Weights(trunk.params, load_tokenizer(config, other, verify=verify))
    for run in trunk.runs:
        check_learned_from(run, lambda: weights.tokenizer, other.tokenizer.path)
    return Model(
        config=config,
        class_names=trunk.class_names,
        sampler=Sampler.of(config),
        weights=weights,
        stored=_stored(whole, trunk),
        text_encoder=_text_encoder(text_encoder, config.data.text_encoder),
    )


def _stored(read: Callable[[], WholeTrunk], trunk: WholeTrunk) -> StoredName | None:
    """The name of the float32 parameters that a trunk's were narrowed from, if they were.

    Devices need not hold both: a trunk without adapters is read onto the host. One with adapters is
    merged on the mesh that it was loaded on, since other devices may round otherwise.
    """
    dtype, mesh = trunk.config.model.compute_dtype, jax.sharding.get_mesh()
    if jnp.dtype(dtype) == jnp.float32:
        return None
    if not trunk.adapters:
        mesh = make_mesh(MeshConfig(), host_devices())
    place = trunk.base.path
    return StoredName(trunk.params, lambda: read().params, dtype=dtype, place=place, mesh=mesh)


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
