"""Policies of cache compression side by side: same noise, same labels, against the full cache."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mvar_jax.cache import Compression
from mvar_jax.evaluation.policy_run import PolicyRun
from mvar_jax.ops.fidelity import psnr, ssim

EQUAL_PSNR = 100.0  # dB, instead of infinity for equal images


@dataclass(frozen=True)
class Row:
    """One policy at one ratio; quality is relative to the full cache's images, same noise."""

    policy: str
    ratio: float  # requested share of all tokens to evict; 0 for the full cache
    psnr: float  # dB, mean over images, an equal image counted as `EQUAL_PSNR`
    ssim: float
    equal_tokens: float  # share
    divergence: float  # KL along the full cache's tokens, nats, mean over tokens
    divergence_by_scale: tuple[float, ...]
    accuracy: float | None  # share of images that a classifier recognises as their label, if any
    lpips: float | None  # mean over images; this and the next as far as networks were asked for
    fid: float | None  # from the full cache's images, as a set
    fd_lite: float | None  # the same by another network than Inception
    tokens_of_all: float  # what the last scale inherits, as a share of all tokens
    tokens_of_history: float  # the same, as a share of all but the last scale's
    kv_bytes: tuple[int, ...]  # per image after every scale, with guidance
    peak_bytes: int  # of the compiled program, for a batch
    attention_flops: int  # per image with guidance, without scoring
    seconds: float  # per image
    compile_seconds: float


@dataclass(frozen=True)
class Duel:
    """The mean difference of two policies' images at one ratio, paired by image."""

    policy: str
    other: str
    ratio: float
    psnr: float  # dB, positive if `policy` is closer to the full cache
    psnr_error: float  # standard error of that mean
    divergence: float  # nats per token, negative if `policy` is closer
    divergence_error: float


@dataclass(frozen=True)
class Comparison:
    """All rows and duels, the policies that could not run and why, and the first images."""

    rows: tuple[Row, ...]
    duels: tuple[Duel, ...]
    refused: dict[str, str]
    images: dict[str, np.ndarray]
    samples: int
    batch_size: int
    tokens: int
    history: int

    def report(self) -> dict[str, Any]:
        """Everything but the images, for JSON."""
        fields = {name: value for name, value in vars(self).items() if name != "images"}
        return {
            **fields,
            "rows": [asdict(row) for row in self.rows],
            "duels": [asdict(duel) for duel in self.duels],
        }


def make_row(
    run: PolicyRun,
    full: PolicyRun,
    compression: Compression,
    *,
    policy: str,
    ratio: float,
    head_dim: int,
    dtype: jnp.dtype,
    accuracy: float | None,
    distances: Mapping[str, float],
) -> Row:
    """Compares a policy's run with the full cache's.

    run, full: the runs of the policy and of the full cache, on the same noise
    compression: the policy's, for its plan
    policy, ratio: as requested
    head_dim, dtype: of the keys and values that the cache stores
    accuracy: share of the images that a classifier recognises as their label, if there is one
    distances: `lpips`, `fid` and `fd_lite`, as far as networks were asked for them
    """
    plan, schedule = compression.plan, compression.schedule
    # Two rows; matmuls with keys and with values; a multiplication and an addition each.
    pairs = sum(n * seen for n, seen in zip(schedule.lengths, plan.attended))
    same = [np.sum(ours == theirs) for ours, theirs in zip(run.tokens, full.tokens)]
    return Row(
        policy=policy,
        ratio=ratio,
        psnr=float(np.mean(_psnr(run, full))),
        ssim=float(np.mean(ssim(jnp.asarray(run.images), jnp.asarray(full.images)))),
        equal_tokens=float(sum(same) / sum(tokens.size for tokens in full.tokens)),
        divergence=float(_divergence(run, np.array(schedule.lengths)).mean()),
        divergence_by_scale=tuple(map(float, run.divergence.mean(axis=0))),
        accuracy=accuracy,
        lpips=distances.get("lpips"),
        fid=distances.get("fid"),
        fd_lite=distances.get("fd_lite"),
        tokens_of_all=plan.inherited / schedule.total,
        tokens_of_history=plan.inherited / max(schedule.total - schedule.lengths[-1], 1),
        kv_bytes=compression.bytes(2, head_dim, dtype),
        peak_bytes=run.peak_bytes,
        attention_flops=2 * 4 * head_dim * pairs,
        seconds=run.seconds,
        compile_seconds=run.compile_seconds,
    )


def _psnr(run: PolicyRun, full: PolicyRun) -> np.ndarray:
    values = psnr(jnp.asarray(run.images), jnp.asarray(full.images))
    return np.minimum(np.asarray(values, np.float64), EQUAL_PSNR)


def _divergence(run: PolicyRun, lengths: np.ndarray) -> np.ndarray:
    """Nats per token of every image, over all scales."""
    return run.divergence.astype(np.float64) @ lengths / lengths.sum()


class Measures(NamedTuple):
    """The figures that duels compare: closeness of every image to that of the full cache."""

    psnr: np.ndarray  # dB, an equal image counted as `EQUAL_PSNR`
    divergence: np.ndarray  # nats per token


def measure(run: PolicyRun, full: PolicyRun) -> Measures:
    """Compares a run with the full cache's, image by image."""
    lengths = np.array([tokens.shape[1] for tokens in full.tokens])
    return Measures(_psnr(run, full), _divergence(run, lengths))


def make_duels(measures: Mapping[tuple[str, float], Measures]) -> Iterator[Duel]:
    """Every pair of policies at every ratio that both ran at."""
    for name, ratio in measures:
        for other, others in measures:
            if name < other and ratio == others and ratio > 0:
                pairs = zip(measures[name, ratio], measures[other, ratio])
                psnrs, divergences = (ours - theirs for ours, theirs in pairs)
                yield Duel(name, other, ratio, *_mean(psnrs), *_mean(divergences))


def _mean(differences: np.ndarray) -> tuple[float, float]:
    """The mean, and its standard error."""
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    return float(differences.mean()), float(error)
