"""Infinity's trunk of a reference file, and everything that is stored of its computation."""

import re
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.config import ModelConfig, TextConfig, infinity_schedule, position_grid
from mvar_jax.config.infinity import hidden_width
from mvar_jax.convert.infinity_names import infinity_entries
from mvar_jax.convert.names import read_params
from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from mvar_jax.models import Trunk, cross_attention, text_conditioner
from mvar_jax.models import context as context_module
from mvar_jax.models.context import ScaleContext
from mvar_jax.ops.attention import attention
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Forced, Request, Sampler, Weights, generate_scales
from mvar_jax.text.features import TextFeatures, pack
from mvar_jax.tokenizers import BSQTokenizer
from mvar_jax.tokenizers.residual_bsq import BinaryQuantizer
from mvar_jax.training.losses import trunk_loss
from tests.conformance_checks.bitwise import config_of, to_ours
from tests.conformance_checks.comparison import Coarse
from tests.conformance_checks.rotary import interpolated_angles, raw_angles
from tests.conformance_checks.tokenizer import to_official
from tests.infinity_reference import InfinityFile
from tests.models.weights import official_arrays

LEVELS = 15
GIVEN = re.compile(
    r"text|lens|cu_seqlens|negative_text|negative_lens|train_grad_names|ar_insert_layer"
    r"|\w+_text|\w+_text_k|\w+_cfg_list|\w+_tau_list"
)


def model_config(about) -> ModelConfig:
    """Our configuration of a trunk that a file describes."""
    return ModelConfig(
        condition="text",
        text=TextConfig(about["Ct5"], about["maxlen"]),
        depth=about["depth"],
        width=about["C"],
        heads=about["heads"],
        pattern=("history+text",),
        positions="rotary",
        levels=LEVELS,
        mlp_ratio=hidden_width(about["C"]) / about["C"],
        shared_modulation=True,
    )


class Model:
    """The trunk and the tokenizer that a file describes, with their weights."""

    def __init__(self, file: InfinityFile, about=None):
        about = dict(about or file.config)
        self.file, self.about = file, about
        self.schedule = infinity_schedule(f"{about['ratio']:g}", about["pn"])
        patch, bits = (2, 4) if about["patchify"] else (1, 1)
        self.bits = about["vae_type"] * bits
        self.trunk = Trunk(model_config(about), self.schedule, 2 * self.bits, self.bits)
        self.entries = infinity_entries(self.trunk, about["chunks"])
        weights = {
            e.official: file.trunk_weight(e.official, e.official_shape) for e in self.entries
        }
        self.params = jax.tree.map(jnp.asarray, read_params(self.entries, weights))
        sizes = [(1, patch * height, patch * width) for height, width in self.schedule.sizes]
        height, width = (16 * side for side in self.schedule.last)
        tokenizer = {"d": about["vae_type"], "vs": sizes, "hw": (height, width)}
        self.tokenizer = BSQTokenizer(config_of(about | tokenizer))

    def texts(self, features, lengths) -> TextFeatures:
        """Compact features as ours, padded to what the longest text of the file needs."""
        most = max(*lengths, *self.about["lens"], *self.about.get("neg_lens", ()))
        rows = np.split(features, np.cumsum(lengths)[:-1])
        return pack(rows, int(most), features.shape[-1])

    def compact(self, padded):
        """The rows of an array over texts, without padding, one text behind another."""
        return jnp.concatenate([row[:n] for row, n in zip(padded, self.about["lens"])])

    def features(self):
        """The latent maps from which teacher-forcing inputs are made."""
        height, width = (side * self.tokenizer.config.patch for side in self.schedule.last)
        shape = (len(self.about["lens"]), self.about["vae_type"], height, width)
        return to_ours(self.file.normal("input:features", shape))


def compute(file: InfinityFile) -> dict[str, np.ndarray]:
    """Every array that the library has a meaning for, by its stored name."""
    model = Model(file)
    condition = model.texts(file["text"], file["lens"])
    quantizer = BinaryQuantizer(model.tokenizer.config)
    pyramid = quantizer.pyramid(model.features(), model.schedule)
    inputs = jnp.concatenate([scale.next_input for scale in pyramid[:-1]], axis=1)
    targets = jnp.concatenate([scale.tokens for scale in pyramid], axis=1)
    return {
        "schedule": with_times(file, model.schedule),
        "tf_x": inputs,
        "tf_bits": targets,
        **_teacher_forced(model, condition, inputs),
        **_training(model, condition, inputs, targets),
        **_runs(file, model, targets),
    }


def with_times(file, schedule):
    """The schedule with the column of times, which images do not use."""
    times = file["schedule"][:, :1]
    return np.concatenate([times, np.array(schedule.sizes)], axis=1)


def _teacher_forced(model: Model, condition, inputs):
    """The logits and what leads to them, of the texts and of the unconditional ones."""
    trunk, params = model.trunk, model.params
    apply = jax.jit(lambda params, *arguments: trunk.apply({"params": params}, *arguments))
    null = trunk.bind({"params": params}).null(condition)
    logits = {
        "tf_logits": apply(params, condition, inputs),
        "tf_logits_alldropped": apply(params, null, inputs),
    }
    embedded = jax.jit(partial(_embedded, trunk))(params, condition)
    embedded = {
        name: model.compact(value) if name in ("tf_text_normed", "tf_kv_ca") else value
        for name, value in embedded.items()
    }
    blocks, _ = jax.jit(partial(_blocks, model))(params, condition, inputs)
    return {**logits, **embedded, **blocks, **_variants(model, condition, inputs)}


def _embedded(trunk, params, condition):
    bound = trunk.bind({"params": params})
    vectors, text = bound.conditioner.embed(condition)
    return {
        "tf_text_normed": bound.conditioner.normalize(condition.features),
        "tf_sos": vectors,
        "tf_kv_ca": text.tokens,
        "tf_gss": bound.shared_modulation(vectors)[:, None],
    }


def _blocks(model, params, condition, inputs, every=None):
    """The tokens before the first block and after each, and the logits.

    With `every` the levels are added again before each so many blocks.
    """
    trunk, context = model.trunk.bind({"params": params}), ScaleContext(model.schedule)
    conditioning = trunk.prepare(condition)
    x = trunk._embed(conditioning, inputs, context)
    levels = np.repeat(np.arange(len(model.schedule)), model.schedule.lengths)
    arrays = {"tf_x_block_in": x}
    for layer in range(trunk.config.depth):
        if every and layer and layer % every == 0:
            x = x + trunk.level_embedding[levels]
        stacked = params["blocks_0"], conditioning.blocks[0]
        own, prepared = jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked)
        x, _ = trunk.blocks[0].apply({"params": own}, x, prepared, context)
        arrays[f"tf_x_block{layer}"] = x
    return arrays, trunk._logits(x, conditioning)


def _variants(model, condition, inputs):
    """Logits by options of the original that no released model uses, or of its bfloat16 run."""
    every = model.about["depth"] // model.about["chunks"]
    _, repeated = jax.jit(partial(_blocks, model, every=every))(model.params, condition, inputs)
    computed = {"tf_logits_lvl_every_chunk": repeated}
    context = context_module.ScaleContext
    patches = {
        "bf16_cross_attention": [
            mock.patch.object(module, "attention", _rounded_attention)
            for module in (cross_attention, text_conditioner)
        ],
        "rope_mode0": [mock.patch.object(context, "angles", _angles_of(raw_angles))],
        "rope_mode1": [mock.patch.object(context, "angles", _angles_of(interpolated_angles))],
    }
    for name, patched in patches.items():
        if f"tf_logits_{name}" in model.file.arrays:
            with ExitStack() as stack:
                for patch in patched:
                    stack.enter_context(patch)
                logits = model.trunk.apply({"params": model.params}, condition, inputs)
            computed[f"tf_logits_{name}"] = logits
    bfloat16 = "tf_logits_bf16_cross_attention"
    if bfloat16 in computed:
        computed[bfloat16] = Coarse(computed[bfloat16], model.file["tf_logits"])
    return computed


def _rounded_attention(query, key, value, **settings):
    """The original's attention to texts casts its inputs and its output to bfloat16.

    It does so whatever else is computed in float32.
    """
    rounded = partial(jax.lax.reduce_precision, exponent_bits=8, mantissa_bits=7)
    return rounded(attention(*map(rounded, (query, key, value)), **settings))


def _angles_of(make):
    def angles(self, dim):
        return make(self.schedule.sizes, position_grid(self.schedule), dim)

    return angles


def _training(model: Model, condition, inputs, targets):
    """Losses, and the gradients of the weighted one."""
    space = model.tokenizer.token_space

    def loss(params):
        logits = model.trunk.apply({"params": params}, condition, inputs)
        uniform, _ = trunk_loss(logits, targets, model.tokenizer, schedule=model.schedule)
        weighted, _ = trunk_loss(
            logits, targets, model.tokenizer, schedule=model.schedule, scale_weights="area"
        )
        return weighted, (uniform, space.loss(logits, targets))

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (weighted, (uniform, entropies)), gradients = run(model.params)
    official = official_arrays(model.entries, gradients)
    names = model.file["train_grad_names"].tolist()
    return {
        "train_loss_uniform": uniform,
        "train_loss_reweighted": weighted,
        "train_per_token_ce": entropies,
        "train_grad_norms": np.array([np.linalg.norm(official[name]) for name in names]),
        **{f"train_grad:{name}": official[name] for name in names},
    }


def _runs(file: InfinityFile, model: Model, targets):
    """Everything of the greedy runs, each with its own texts, guidance and temperatures."""
    computed = {}
    for match in file.match(r"(ar_(\w+))_bits"):
        run, kind = match.groups()
        layer = 0
        if kind == "insert":  # counted from the end, the last block is -1 there
            layer = model.about["depth"] + int(file["ar_insert_layer"]) + 1
        forced = {"forced": len(model.schedule), "leak3": 3}.get(kind, 0)
        steps = _run(file, model, run, targets, layer=layer, forced=forced, away=kind == "neg")
        logits = jnp.concatenate([step.logits for step in steps], axis=1)
        pairs = logits.reshape(*logits.shape[:2], -1, 2)
        inputs = [step.inputs for step in steps[:-1]]
        computed |= {
            f"{run}_logits": logits,
            f"{run}_bits": jnp.concatenate([step.tokens for step in steps], axis=1),
            f"{run}_min_margin": jnp.abs(pairs[..., 1] - pairs[..., 0]).min(),
            f"{run}_xin": jnp.concatenate(inputs, axis=1),
            f"{run}_codes": to_official(steps[-1].running),
        }
        if f"{run}_img" in file.arrays:
            computed[f"{run}_img"] = _image(file, model, steps[-1].running)
    return computed


class Step(NamedTuple):
    """What is compared of a scale."""

    logits: jax.Array  # after temperature and guidance
    tokens: jax.Array
    running: jax.Array
    inputs: jax.Array | None  # of the next scale


def _run(file, model, run, targets, *, layer, forced, away) -> list[Step]:
    condition = model.texts(file[f"{run}_text"], file["lens"])
    negative = model.texts(file["negative_text"], file["negative_lens"]) if away else None
    temperatures = jnp.asarray(file[f"{run}_tau_list"])
    filters = Filters(
        guidance=jnp.asarray(file[f"{run}_cfg_list"]) - 1,
        temperature=temperatures,
        top_k=jnp.int32(1),
        top_p=jnp.float32(0),
    )
    batch = len(file["lens"])
    given = [
        Forced(targets[:, own], jnp.full((batch, n), float(scale < forced)))
        for scale, (own, n) in enumerate(zip(model.schedule.slices, model.schedule.lengths))
    ]
    keys = image_keys(jnp.uint32(0), jnp.arange(batch, dtype=jnp.uint32))
    request = Request(condition, keys, filters, given if forced else None, negative)
    sampler = Sampler(model.trunk, model.tokenizer, model.schedule, guidance_layer=layer)

    @jax.jit
    def steps(params, request):
        made = generate_scales(sampler, Weights(params, {}), request)
        return [(step.logits, step.tokens, step.running) for step in made]

    quantizer, results = BinaryQuantizer(model.tokenizer.config), []
    for scale, (logits, tokens, running) in enumerate(steps(model.params, request)):
        following = None
        if scale + 1 < len(model.schedule):
            nothing = jnp.zeros((batch, tokens.shape[1], model.bits))
            _, following = quantizer.accumulate(running, nothing, scale, model.schedule)
        results.append(Step(logits / temperatures[scale], tokens, running, following))
    return results


def _image(file, model, running):
    """What the decoder makes of the codes, as the original stores it: truncated, blue first."""
    entries = tokenizer_entries(model.tokenizer.config)
    params = tokenizer_params(file.tokenizer_weights(entries), model.tokenizer.config)
    decode = jax.jit(
        lambda params, x: model.tokenizer.apply({"params": params}, x, method="decode")
    )
    images = decode(params, running)
    return ((images + 1) / 2 * 255).astype(jnp.uint8)[..., ::-1]
