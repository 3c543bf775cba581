"""ScaleKV on whole runs of Infinity, scale by scale, and the budgets and windows of its files."""

import json
import math
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.cache import Selection, prepare_compression
from mvar_jax.cache.policies import scalekv
from mvar_jax.cache.policies.base import best
from mvar_jax.cache.policies.scalekv import ScaleKV, observation_window
from mvar_jax.cache.policies.scalekv_budgets import PUBLISHED, Budgets
from mvar_jax.cache.policies.snapkv import average_pool
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Forced, Request, Sampler, Weights, generate_scales
from mvar_jax.sampling.generate import begin, draw_scale
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.residual_bsq import BinaryQuantizer
from tests.conformance_checks.infinity import Model, with_times
from tests.infinity_reference import InfinityFile

GIVEN = re.compile(r"model_case|text|lens|\w+_text|\w+_text_k")
FILE = "of the file"  # the name of its budgets
SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)  # of scales, for the original's windows
EQUAL = 2e-5  # scores so near to each other are a tie; different ones differ by more in the files
GUIDANCE = 3 - 1.0  # as the original counts, less the conditional one


@contextmanager
def as_published(about, layers, lengths):
    """The budgets of a file among the published ones, and the original's windows and pooling."""
    rows = {
        reader: tuple(row[i] if i < len(row) else about["base"] for i in range(layers))
        for reader, row in enumerate(about["cache_sizes"])
        if row is not None
    }
    with ExitStack() as patches:
        budgets = {FILE: Budgets(about["base"], rows)}
        patches.enter_context(mock.patch.dict(PUBLISHED, budgets))
        if about["pooling"] == "avgpool":
            patches.enter_context(mock.patch.object(scalekv, "max_pool", average_pool))
        squares = tuple(lengths) == tuple(side**2 for side in SIDES[: len(lengths)])
        if not squares or math.isqrt(about["window"]) ** 2 != about["window"]:
            window = partial(official_window, about["window"])
            own = mock.patch.object(ScaleKV, "_window", lambda self, *places: window(*places))
            patches.enter_context(own)
        yield


def settings(about):
    """The policy's settings of a file."""
    grid = math.isqrt(about["window"])
    return {"budgets": FILE, "scoring": "official", "grid": grid, "pool": about["kernel"]}


def official_window(count, length, probe):
    """The window by the original's constants: all scales are its squares, whatever they are."""
    grid, size = math.isqrt(count), min(SIDES[probe.scale] ** 2, length)
    side = math.isqrt(size)
    if grid**2 != count or side**2 != size or side < grid:
        return np.arange(max(0, length - count), length)
    return observation_window((side, side), grid, length)


@dataclass(frozen=True)
class Followed(ScaleKV):
    """ScaleKV that takes a file's choice among equal scores, where its table marks one.

    The table says of every head, row, scale and position whether it is kept. In place of scores the
    cache gets how far a choice was from another one: without marks the least difference from a
    score on the other side of the cut, with marks by how much a better token was passed over.
    """

    scored = True

    def select(self, union, probe, group):
        """The policy's selection, or the marked one."""
        chosen = super().select(union, probe, group)
        if chosen.keep is None:
            return chosen._replace(score=jnp.full_like(chosen.score, jnp.inf))
        marked = jnp.moveaxis(probe.table[:, :, probe.scale], 0, 1)
        marked = jnp.take_along_axis(marked, union.position.astype(int), axis=2)
        followed = marked.any(axis=-1, keepdims=True)
        count = chosen.keep.shape[2]
        keep = jnp.where(followed, best(marked.astype(jnp.float32), count), chosen.keep)
        window = self._window(union.length, probe)
        last = jax.lax.top_k(chosen.score, count - len(window))[0][..., -1:]
        taken = jnp.where(marked, chosen.score, jnp.inf).at[:, :, window].set(jnp.inf)
        passed = last - taken.min(axis=-1, keepdims=True)
        lower = jnp.where(chosen.score < last, chosen.score, -jnp.inf)
        gap = last - lower.max(axis=-1, keepdims=True)
        distance = jnp.where(followed, passed, gap)
        return Selection(chosen.attend, keep, jnp.broadcast_to(distance, chosen.score.shape))


def compute(file: InfinityFile) -> dict[str, np.ndarray]:
    """Every array, by its stored name."""
    about = file.config
    model = Model(file, json.loads(str(file["model_case"])))
    computed = {"schedule": with_times(file, model.schedule)}
    if "subsample" in about:
        head, stride = about["subsample"]
        computed["logit_token_index"] = np.r_[:head, head : model.schedule.total : stride]
    with as_published(about, model.trunk.config.depth, model.schedule.lengths):
        runs = Runs(file, model)
        for run, forcing in about["runs"].items():
            request = _request(file, model, run, forcing.get("gt_leak", 0))
            for variant in ("lowest_index", "torch"):
                arrays = runs.compressed(f"{run}/{variant}", request, variant == "torch")
                computed |= {f"{run}/{variant}/{name}": x for name, x in arrays.items()}
            if f"{run}/no_compression/logits" in file.arrays:
                computed[f"{run}/no_compression/logits"] = runs.full(request)
    return computed


def _request(file, model, run, forced):
    """The request of a run, whose first scales may be forced."""
    name = f"{run}_text" if f"{run}_text" in file.arrays else "text"
    batch, scales = len(file["lens"]), len(model.schedule)
    quantizer, given = BinaryQuantizer(model.tokenizer.config), []
    for scale, size in enumerate(model.schedule.sizes):
        shape = (batch, *quantizer._map_size(size), model.about["vae_type"])
        bits = quantizer.fold(jnp.asarray(file.uniform(f"input:skv_bits:{scale}", shape) > 0.5))
        mask = np.full(bits.shape[:2], scale < forced, np.float32)
        given.append(Forced(bits.astype(np.uint8), mask))
    filters = Filters(
        guidance=np.full(scales, GUIDANCE, np.float32),
        temperature=np.ones(scales, np.float32),
        top_k=np.int32(1),
        top_p=np.float32(0),
    )
    keys = image_keys(jnp.uint32(0), jnp.arange(batch, dtype=jnp.uint32))
    return Request(model.texts(file[name], file["lens"]), keys, filters, given)


class Runs:
    """The runs of a file, by two programs: one with ScaleKV and one with the full cache."""

    def __init__(self, file, model):
        self.file, self.model, self.batch = file, model, len(file["lens"])
        self.sampler = Sampler(model.trunk, model.tokenizer, model.schedule)
        sizes = model.schedule.sizes
        # One scale more, since the last one's keys are not kept.
        self.longer = ScaleSchedule((*sizes, sizes[-1]))
        shape = model.trunk.attention_shape
        made = prepare_compression("scalekv", self.longer, shape, **settings(file.config))
        policy = Followed(made.policy.budget, **settings(file.config))
        self.compression = replace(made, policy=policy)
        self._compressed, self._full = jax.jit(self._with_scalekv), jax.jit(self._with_all)

    def compressed(self, run, request, follows):
        """The arrays of a run under ScaleKV."""
        marks = self._marks(run if follows else None)
        steps = jax.device_get(self._compressed(self.model.params, marks, request))
        bits = np.concatenate([step[1] for step in steps], axis=1)
        if self.file[f"{run}/bits"].shape[-1] != bits.shape[-1]:
            bits = np.packbits(bits, axis=-1)
        arrays = {"logits": self._stored([step[0] for step in steps]), "bits": bits}
        lengths, gaps = [], []
        for layer in range(self.model.trunk.config.depth):
            held = 0
            for scale, (_, _, layers) in enumerate(steps):
                position, least, most = layers[layer]
                lengths.append((held + self.model.schedule.lengths[scale], position.shape[2]))
                held = position.shape[2]
                gaps.append(least)
                if follows and most > EQUAL:  # no tie: the file's choice is wrong
                    position = np.full_like(position, -1)
                arrays[f"layer{layer}_scale{scale}_kept"] = self._halves(position)
        shape = (-1, len(steps), 2)
        arrays["cache_lengths_before_after"] = np.array(lengths).reshape(shape)
        arrays["min_score_gap"] = np.min(gaps)
        return arrays

    def full(self, request):
        """The logits of a run with the full cache."""
        return self._stored(self._full(self.model.params, request))

    def _stored(self, logits):
        whole = np.concatenate(logits, axis=1)
        index = self.file.arrays.get("logit_token_index")
        return whole if index is None else whole[:, index]

    def _halves(self, rows):
        """Pairs of rows, one pair an image, as the original's two halves."""
        pairs = rows.reshape(self.batch, 2, *rows.shape[1:])
        return pairs.swapaxes(0, 1).reshape(rows.shape)

    def _marks(self, run):
        """What a run of the file keeps, bool [layers, heads, rows, scales, positions]."""
        config, schedule = self.model.trunk.config, self.model.schedule
        rows = 2 * self.batch
        marks = np.zeros((config.depth, config.heads, rows, len(schedule), schedule.total), bool)
        for match in self.file.match(rf"{run}/layer(\d+)_scale(\d+)_kept"):
            layer, scale = map(int, match.groups())
            kept = self.file[match.group()]
            halves = kept.reshape(2, self.batch, *kept.shape[1:])
            own = halves.swapaxes(0, 1).reshape(kept.shape).swapaxes(0, 1)
            np.put_along_axis(marks[layer, :, :, scale], own, True, axis=-1)
        return marks

    def _with_scalekv(self, params, marks, request):
        weights, compression = Weights(params, {}), replace(self.compression, table=marks)
        trunk = self.model.trunk.bind({"params": params})
        carried = begin(self.sampler, weights, request)
        memory = trunk.empty_memory(2 * self.batch, compression, schedule=self.longer)
        carried, steps = replace(carried, memory=memory), []
        for scale in range(len(self.model.schedule)):
            carried, step = draw_scale(self.sampler, weights, request, carried, scale)
            steps.append((step.logits, step.tokens, _by_layer(step.memory)))
        return steps

    def _with_all(self, params, request):
        made = generate_scales(self.sampler, Weights(params, {}), request)
        return [step.logits for step in made]


def _by_layer(memory):
    """Of every layer the positions of the kept tokens, and the least and the largest distance."""
    layers = []
    for run in memory:
        (cache,) = run.layers[0].cache.groups
        for position, distance in zip(cache.position, cache.score):
            most = jnp.max(distance, where=distance < jnp.inf, initial=-jnp.inf)
            layers.append((position, distance.min(), most))
    return layers
