"""Single components of the models, computed from the inputs that a reference file stores."""

import functools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.cache import AttentionShape, prepare_compression
from mvar_jax.config import BlockKind, ModelConfig, SSMConfig, TokenizerConfig
from mvar_jax.convert import layer_names, tokenizer_names
from mvar_jax.convert.names import read_params
from mvar_jax.models.attention import SelfAttention
from mvar_jax.models.block import Block, FeedForward, Modulation, empty_state
from mvar_jax.models.conditioner import Embedded
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layers import modulated_norm
from mvar_jax.models.state_space import StateSpace
from mvar_jax.ops.resize import resize_area, resize_bicubic
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import CategoricalTokens
from mvar_jax.tokenizers.layers import Downsample, ResidualBlock, SpatialAttention, Upsample
from mvar_jax.tokenizers.residual_vq import ResidualQuantizer
from tests.conformance_checks.tokenizer import gradient_norms, to_official
from tests.models.weights import official_arrays
from tests.reference import ReferenceFile

# Inputs that are taken from a component's file as they are, and so not compared.
GIVEN = re.compile(r"x|x_\d+|cond|f|scale_mul_1H11|logits|logits_ties|exp_noise|logits_k30_p0p9")
HEAD_DIM = 64


def to_ours(maps):
    """Maps with the channels last."""
    return jnp.asarray(rearrange(maps, "batch channels ... -> batch ... channels"))


def read(file, entries):
    """Our parameters by the recipe, without the leading name of their paths."""
    entries = list(entries)
    return jax.tree.map(jnp.asarray, read_params(entries, file.weights(entries)))


def compiled(component):
    """Computes a component in one program, which takes a tenth of the time."""

    @functools.wraps(component)
    def run(file):
        return jax.jit(lambda arrays: component(replace(file, arrays=arrays)))(file.arrays)

    return run


def mamba2(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The state-space layer: outputs, carried states, gradients."""
    computed, case = {}, 0
    while f"c{case}" in file.config:
        name, about = f"c{case}", file.config[f"c{case}"]
        computed |= {f"{name}_{key}": value for key, value in _mamba2(file, name, about).items()}
        case += 1
    return computed


def _mamba2(file, case, about):
    ssm = SSMConfig(
        about["d_state"], about["d_conv"], about["expand"], about["headdim"], about["chunk"]
    )
    config = ModelConfig(depth=1, width=about["d_model"], heads=1, ssm=ssm)
    entries = list(layer_names.state_space_entries(f"mamba2_{case}", (), config))
    params, layer = read(file, entries), StateSpace(config)
    x = jnp.asarray(file.normal(f"input:mamba2_{case}", (about["B"], about["L"], about["d_model"])))
    weights = file.normal(f"input:mamba2_{case}_loss", x.shape)

    def loss(params, x):
        y, _ = layer.apply({"params": params}, x)
        return jnp.sum(y * weights) / (x.shape[0] * x.shape[1]), y

    run = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (gradients, x_gradient), y = run(params, x)

    @jax.jit
    def memory_of(params, x):
        return layer.apply({"params": params}, x, empty_state(config, x.shape[0], x.dtype))[1]

    final, prefix = memory_of(params, x), memory_of(params, x[:, : about["prefix"]])

    def conv_state(memory, length):
        """The original keeps one input of the convolution more than it needs, the oldest."""
        before = x[:, max(0, length - ssm.conv_size) : length - 1]
        first = _tails(memory_of(params, before))[..., :1] if length > 1 else 0
        tails = _tails(memory)
        return jnp.concatenate([jnp.broadcast_to(first, tails[..., :1].shape), tails], axis=-1)

    official = official_arrays(entries, gradients)
    official = {name.removeprefix(f"mamba2_{case}."): value for name, value in official.items()}
    names = file.config[f"{case}_param_names"]
    return {
        "x": x,
        "y": y,
        "final_conv_state": conv_state(final, about["L"]),
        "final_ssm_state": final.state,
        "prefix_conv_state": conv_state(prefix, about["prefix"]),
        "prefix_ssm_state": prefix.state,
        "grad_l2": gradient_norms(official, names),
        "grad__x_rows": x_gradient[:, :: max(1, x.shape[1] // 16)],
        **{f"grad__{name}": value for name, value in official.items()},
    }


def _tails(memory):
    tails = jnp.concatenate([memory.tail_x, memory.tail_bc], axis=-1)
    return rearrange(tails, "b taps channels -> b channels taps")


@compiled
def attention(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Attention inside scales and over the history, with its cached keys and values."""
    about = file.config["config"]
    schedule, heads = ScaleSchedule.squares(*about["patch_nums"]), about["heads"]
    x = jnp.asarray(file.arrays["x"])
    levels = np.repeat(np.arange(len(schedule)), schedule.lengths)
    bias = np.where(levels[None] <= levels[:, None], np.float32(0), np.float32(-np.inf))
    scales = file.arrays["scale_mul_1H11"]
    computed = {"x": x, "block_causal_bias": bias[None, None], "scale_mul_1H11": scales}
    for qk_norm in (True, False):
        config = ModelConfig(depth=1, width=x.shape[-1], heads=heads, qk_norm=qk_norm)
        params = read(file, layer_names.attention_entries("attention", (), config))
        if qk_norm:
            params["query_scale"] = jnp.asarray(scales.reshape(heads))
        norm = "l2" if qk_norm else "nol2"
        for reach, name in (("history", "var"), ("scale", "mvar")):
            mixed, _ = SelfAttention(config, reach).apply(
                {"params": params}, x, ScaleContext(schedule)
            )
            computed[f"{name}_{norm}_out"] = mixed
        cache = _cached(SelfAttention(config, "history"), params, x, schedule)
        for which in ("key", "value"):
            computed[f"var_{norm}_{which[0]}_cache"] = getattr(cache.groups[0], which)
    return computed


def _cached(layer, params, x, schedule):
    # A further scale, so that the last of the file's is remembered too.
    longer = ScaleSchedule((*schedule.sizes, schedule.last))
    shape = AttentionShape(1, layer.config.heads)
    full = prepare_compression("full", longer, shape)
    cache = full.empty_layer(0, x.shape[0], HEAD_DIM, x.dtype)
    for scale, own in enumerate(schedule.slices):
        context = ScaleContext(longer, scale)
        _, cache = layer.apply({"params": params}, x[:, own], context, cache)
    return cache


@compiled
def blocks(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Whole blocks of both models, shared modulation, and the modulated norm of the head."""
    about, x = file.config["config"], jnp.asarray(file.arrays["x"])
    condition, width = jnp.asarray(file.arrays["cond"]), x.shape[-1]
    context = ScaleContext(ScaleSchedule.squares(*about["patch_nums"]))
    config = ModelConfig(
        depth=1,
        width=width,
        heads=about["heads"],
        mlp_ratio=float(about["mlp_ratio"]),
        norm_epsilon=about["norm_eps"],
        qk_norm=about["attn_l2_norm"],
    )

    def build(name, kind, config):
        params = read(file, layer_names.block_entries(name, (), kind, config))
        return Block(config, kind), {"params": params}

    var, own = build("block", BlockKind.parse("history"), config)
    mvar, mixed = build("mblock", BlockKind.parse("scale+ssm"), config)
    shared, offsets = build(
        "block", BlockKind.parse("history"), replace(config, shared_modulation=True)
    )
    prepared = var.apply(own, Embedded(condition), method="prepare")
    together = _modulation(file, "shared_ada_lin.1", condition, 6)
    head = _modulation(file, "head_nm.ada_lin.1", condition, 2)
    shifted = shared.apply(offsets, Embedded(condition), together, method="prepare")
    computed = {
        "x": x,
        "cond": condition,
        "var_ada": prepared.modulation,
        "var_out": var.apply(own, x, prepared, context)[0],
        "ffn_out": FeedForward(config).apply({"params": own["params"]["ffn"]}, x),
        "var_saln_gss": together[:, None],
        "var_saln_out": shared.apply(offsets, x, shifted, context)[0],
        "head_nm_out": modulated_norm(x, head[:, 0], head[:, 1], about["norm_eps"]),
    }
    return computed | _mvar_block(mvar, mixed, x, condition, context)


def _mvar_block(block, variables, x, condition, context):
    """The M-VAR block and its branches, one after another."""
    params, epsilon = variables["params"], block.config.norm_epsilon
    prepared = block.apply(variables, Embedded(condition), method="prepare")
    gates, scales, shifts = rearrange(prepared.modulation, "b (three g) c -> three g b c", three=3)
    mixer = SelfAttention(block.config, "scale")
    normal = modulated_norm(x, scales[0], shifts[0], epsilon)
    mixed, _ = mixer.apply({"params": params["attention"]}, normal, context)
    after = x + gates[0][:, None] * mixed
    inner = modulated_norm(after, scales[1], shifts[1], epsilon)
    return {
        "mvar_ada": prepared.modulation,
        "mvar_attn_out": mixed,
        "mvar_mamba_in": inner,
        "mvar_mamba_out": StateSpace(block.config).apply({"params": params["ssm"]}, inner)[0],
        "mvar_out": block.apply(variables, x, prepared, context)[0],
    }


def _modulation(file, name, condition, groups):
    width = condition.shape[-1]
    params = read(file, layer_names.linear_entries(name, (), (width,), (groups, width)))
    return Modulation(width, groups, (1.0,) * groups).apply({"params": params}, condition)


@compiled
def vae(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The layers of the autoencoder."""
    before, width = file.config["in_channels"], file.config["out_channels"]
    names = tokenizer_names
    cases = {
        "resnet": (ResidualBlock(width, 32), names.block_entries, (before, width)),
        "resnet_same": (ResidualBlock(before, 32), names.block_entries, (before, before)),
        "attn": (SpatialAttention(32), names.attention_entries, (before,)),
        "up": (Upsample(), _resampling_entries, (before,)),
        "down": (Downsample(), _resampling_entries, (before,)),
    }
    computed = {"x": file.arrays["x"]}
    for name, (layer, entries, sizes) in cases.items():
        params = read(file, entries(f"vae_{name}", ("top",), *sizes))["top"]
        computed[f"{name}_out"] = to_official(
            layer.apply({"params": params}, to_ours(file.arrays["x"]))
        )
    return computed


def _resampling_entries(name, path, width):
    return tokenizer_names.conv_entries(f"{name}.conv", (*path, "conv"), width, width)


@compiled
def phi(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The residual convolutions, each on the same map, as it is added to an empty one."""
    about, maps = file.config, to_ours(file.arrays["x"])
    count, side = sum(name.startswith("out_") for name in file.arrays), about["size"]
    config = _quantizer_config(about["channels"], 2, ((side, side),) * count, count, side)
    config = replace(config, residual_ratio=about["quant_resi"])
    params, codes = _quantizer_params(file, config), rearrange(maps, "b h w c -> b (h w) c")
    quantizer = ResidualQuantizer(config).bind({"params": params})
    outputs = [
        quantizer.accumulate(jnp.zeros_like(maps), codes, scale, config.schedule)[0]
        for scale in range(count)
    ]
    return {"x": file.arrays["x"], **{f"out_{i}": to_official(o) for i, o in enumerate(outputs)}}


@compiled
def quantizer(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The residual quantizer in all its variants."""
    about, features = file.config["config"], to_ours(file.arrays["f"])
    sizes = ScaleSchedule.squares(*about["patch_nums"]).sizes
    other = ScaleSchedule.squares(*about["alt_patch_nums"]).sizes
    side = features.shape[1]
    variants = {
        "plain": (4, sizes, False),
        "znorm": (4, sizes, True),
        "shared": (1, sizes, False),
        "nonshared": (0, sizes, False),
        "partial3": (3, sizes, False),
        "altpn": (4, other, False),
    }
    computed = {"f": file.arrays["f"]}
    for name, (convolutions, scales, normalize) in variants.items():
        config = _quantizer_config(about["channels"], about["V"], scales, convolutions, side)
        config = replace(config, normalize_codes=normalize)
        module = ResidualQuantizer(config).bind({"params": _quantizer_params(file, config)})
        pyramid = module.pyramid(features, config.schedule)
        for k, scale in enumerate(pyramid):
            computed[f"{name}_idx_s{k}"] = scale.tokens
        computed[f"{name}_f_hat"] = to_official(pyramid[-1].running)
        inputs = [scale.next_input for scale in pyramid[:-1]]
        computed[f"{name}_var_input"] = jnp.concatenate(inputs, axis=1)
        computed[f"{name}_vq_loss"] = module(features, config.schedule)[1]
    return computed


def _quantizer_config(channels, vocabulary, scales, convolutions, side):
    return TokenizerConfig(
        image_size=(16 * side, 16 * side),
        scales=scales,
        vocabulary=vocabulary,
        code_channels=channels,
        shared_convolutions=convolutions,
    )


def _quantizer_params(file, config):
    entries = tokenizer_names.tokenizer_entries(config)
    return read(file, [e for e in entries if e.path[0] == "quantizer"])["quantizer"]


@compiled
def interp(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Bicubic enlargement and area reduction between sizes."""
    computed = {}
    for name in file.arrays:
        kind, *sizes = name.split("_")
        if kind == "x":
            computed[name] = file.arrays[name]
        elif sizes[0] == "identity":
            maps = to_ours(file.arrays[f"x_{sizes[1]}"])
            computed[name] = to_official(resize_bicubic(maps, maps.shape[1:3]))
        else:
            source, _, target = sizes
            resize = {"up": resize_bicubic, "down": resize_area}[kind]
            maps = to_ours(file.arrays[f"x_{source}"])
            computed[name] = to_official(resize(maps, (int(target), int(target))))
    return computed


def sampling(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Top-k, then top-p, with and without ties."""
    computed = {name: file.arrays[name] for name in ("logits", "logits_ties")}
    logits, ties = (jnp.asarray(computed[name]) for name in ("logits", "logits_ties"))
    keep = jax.jit(CategoricalTokens(logits.shape[-1]).filter)
    for i, (top_k, top_p) in enumerate(file.config["settings"]):
        computed[f"filtered_{i}"] = keep(logits, top_k, float(top_p))
        computed[f"ties_filtered_{i}"] = keep(ties, top_k, 0.0)
    return computed


@compiled
def gumbel(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The Gumbel softmax, and its hard form, which is a drawn token."""
    inputs = ("logits", "exp_noise", "logits_k30_p0p9")
    computed = {name: file.arrays[name] for name in inputs}
    noise = -jnp.log(jnp.asarray(computed["exp_noise"]))
    space = CategoricalTokens(noise.shape[-1])
    for case in file.config["settings"]:
        logits, ratio = jnp.asarray(computed[case["logits"]]), float(case["ratio"])
        mixture = space.mixture(logits, noise, ratio)
        drawn = space.sample(logits * (1 + ratio), noise)
        one_hot = jax.nn.one_hot(drawn, space.vocabulary, dtype=jnp.float32)
        computed[f"out_{case['index']}"] = one_hot if case["hard"] else mixture
    return computed


# Files of components are told apart by how some of their arrays begin, in this order.
COMPONENTS = {
    "c0_": mamba2,
    "block_causal_bias": attention,
    "mvar_mamba_": blocks,
    "resnet_": vae,
    "plain_": quantizer,
    "up_": interp,
    "filtered_": sampling,
    "exp_noise": gumbel,
    "out_": phi,
}
