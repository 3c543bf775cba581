"""Inversion of noise: the noise under which a model would draw the tokens of a given image.

Drawn again with it under another label or prompt, an image keeps its layout where the two would
draw alike (VARIN, arXiv 2509.01984).
"""

from functools import partial

import jax
import jax.numpy as jnp

from mvar_jax.checks import check_given
from mvar_jax.sampling.generate import generate_scales, tempered
from mvar_jax.sampling.request import Forced, Request, Sampler, Weights


@partial(jax.jit, static_argnames="sampler")
def invert(sampler: Sampler, weights: Weights, request: Request) -> tuple[Forced, ...]:
    """Noise under which a request draws the tokens that are forced on it, all of them.

    It is a sample of the posterior of the noise, given these tokens, by the images' keys. It goes
    back into a request as `forced`: with the same condition, guidance, temperature and cache policy
    the tokens come back, whatever top-k and top-p are. Filters play no part in the posterior, which
    is that of a draw from all tokens, and spare the given ones. The logits are those of the scales
    drawn one after another with these tokens: what a policy drops is dropped.
    """
    forced = check_given(
        request.forced, "forced: got no tokens to invert, expected those of an image."
    )
    space, found = sampler.tokenizer.token_space, []
    for scale, step in enumerate(generate_scales(sampler, weights, request)):
        logits, tokens = tempered(request, step.logits, scale), forced[scale].tokens
        prior = space.noise(request.keys, scale, logits.shape[1])
        noise = space.posterior(logits, prior, tokens)
        found.append(Forced(tokens, jnp.zeros(logits.shape[:2], jnp.float32), noise=noise))
    return tuple(found)
