"""Starts a tokenizer's codes from the features of the first batches."""

from collections.abc import Callable
from contextlib import closing
from itertools import islice

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Params
from mvar_jax.models.parameters import constrain_params
from mvar_jax.ops.noise import make_key
from mvar_jax.tokenizers import Tokenizer
from mvar_jax.training.loop import Batches


def start_codes(
    tokenizer: Tokenizer, params: Params, batches: Batches, count: int, *, seed: int
) -> Params:
    """The parameters, with codes at cluster centres of the features of the first `count` batches.

    All devices and processes compute the same from the whole of the batches, on the ambient mesh.
    `batches` are read by an iterator of their own, so that a training still sees all of them.
    """
    encode = _method(tokenizer, "encode")
    with closing(iter(batches)) as first:
        features = [encode(params, batch["image"]) for batch in islice(first, count)]

    @jax.jit
    def cluster(params, features):
        codes = _method(tokenizer, "codes_from_features")(
            params, jnp.concatenate(features), make_key(seed)
        )
        return constrain_params({"quantizer": {"codebook": codes}})

    started = cluster(params, features)["quantizer"]
    return {**params, "quantizer": params["quantizer"] | started}


def _method(tokenizer: Tokenizer, name: str) -> Callable[..., Array]:
    return jax.jit(
        lambda params, *arguments: tokenizer.apply({"params": params}, *arguments, method=name)
    )
