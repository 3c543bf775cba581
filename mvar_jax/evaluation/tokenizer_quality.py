"""How well a tokenizer keeps images: their reconstructions beside them, and the codes it uses."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import HostArray, Params, in_32_bits
from mvar_jax.config import TokenizerConfig
from mvar_jax.data.image_sets import ImageSet, filled
from mvar_jax.data.pipeline import normalize
from mvar_jax.evaluation.comparison import EQUAL_PSNR
from mvar_jax.evaluation.frechet import Accumulator, gaussian_distance
from mvar_jax.evaluation.judges import Judges
from mvar_jax.evaluation.metrics import usage_of_counts
from mvar_jax.evaluation.set_statistics import distance_name
from mvar_jax.networks.lpips import PerceptualNetwork, perceptual_distance
from mvar_jax.ops.fidelity import psnr, ssim
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.tokenizers import build_tokenizer

Tokens = Sequence[HostArray]


def measure_tokenizer(
    config: TokenizerConfig,
    params: Params,
    images: ImageSet,
    judges: Judges,
    *,
    batch_size: int,
    report: Callable[[int], None],
) -> dict[str, Any]:
    """The quality of a tokenizer's reconstructions of images, rounded to 8 bits.

    config, params: the tokenizer
    images: the originals
    judges: networks to compare by
    batch_size: images computed at a time
    report: is told how many are done

    `psnr` in dB and `ssim`, of values in [0, 1], are means over images, as is `lpips`; `rfid`, or
    `rfd_lite` by another network than Inception, is the distance of the two sets; `usage` is the
    share and the perplexity of the codes at every scale, or of a bit's two values.
    """
    run, totals = _reconstruction(config, params), _Totals(config, judges)
    done = 0
    for batch in images.batches(batch_size):
        whole = filled(batch, batch_size)
        made, tokens = run(whole)
        totals.add(whole, made, tokens, count=len(batch))
        done += len(batch)
        report(done)
    return totals.figures() | {"images": done}


class _Totals:
    """What is kept of batches of images and their reconstructions."""

    def __init__(self, config: TokenizerConfig, judges: Judges):
        codes = config.quantizer == "vq"
        symbols = (1, config.vocabulary) if codes else (config.token_channels, 2)
        self._counts = np.zeros((len(config.scales), *symbols), np.int64)
        self._compare = _comparison(judges.perceptual)
        self._closeness: list[np.ndarray] = []
        self._moments = {one: (Accumulator(), Accumulator()) for one in judges.extractors}

    def add(self, images: np.ndarray, made: np.ndarray, tokens: Tokens, *, count: int) -> None:
        """Takes the first `count` images of a batch, bytes, and their tokens of every scale."""
        self._closeness.append(self._compare(images, made)[:count])
        for extractor, pair in self._moments.items():
            for accumulator, pixels in zip(pair, (images, made)):
                accumulator.add(extractor(pixels[:count]).pool)
        symbols, values = self._counts.shape[1:]
        for counts, own in zip(self._counts, tokens):
            for symbol, column in enumerate(np.asarray(own)[:count].reshape(-1, symbols).T):
                counts[symbol] += np.bincount(column, minlength=values)

    def figures(self) -> dict[str, Any]:
        """The report, without the number of images."""
        means = np.concatenate(self._closeness).mean(axis=0, dtype=np.float64)
        found: dict[str, Any] = dict(zip(("psnr", "ssim", "lpips"), map(float, means)))
        for extractor, (one, other) in self._moments.items():
            name = distance_name(extractor.network.name)
            found[f"r{name}"] = gaussian_distance(one.gaussian(), other.gaussian())
        return found | {"usage": usage_of_counts(self._counts)}


def _reconstruction(config: TokenizerConfig, params: Params):
    """A function of images, bytes: their reconstructions, bytes, and the tokens of every scale."""
    tokenizer = build_tokenizer(config)

    @jax.jit
    def program(params, images):
        bound = tokenizer.bind({"params": params})
        return bound.reconstruct(images)[0], bound.quantize(bound.encode(images))

    @in_32_bits
    def run(pixels):
        made, tokens = program(params, normalize(pixels))
        return to_uint8(made), tokens

    return run


def _comparison(network: PerceptualNetwork | None):
    """A function of two batches of bytes: PSNR, SSIM and, with a network, LPIPS of every pair."""

    @jax.jit
    def program(params, one, other):
        # SSIM is published of values in [0, 1]: the same as of [0, 2] with twice the range.
        x, y = (pixels.astype(jnp.float32) / 127.5 for pixels in (one, other))
        found = [jnp.minimum(psnr(x, y), EQUAL_PSNR), ssim(x, y)]
        if network is not None:
            found.append(perceptual_distance(network.backbone, params, x - 1, y - 1))
        return jnp.stack(found, axis=1)

    params = None if network is None else network.params
    return in_32_bits(lambda one, other: np.asarray(program(params, one, other)))
