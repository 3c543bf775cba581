"""Time, memory and compile time of training blocks, compared with naive forms.

Attention inside scales is compared with attention over all tokens under a mask, the chunked
state-space layer with a scan over the states of all tokens, scanned layers with unrolled ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.array_types import Array, Float, PyTree
from mvar_jax.config import ModelConfig
from mvar_jax.evaluation.made_up import random_arrays
from mvar_jax.evaluation.programs import compile_timed, median_seconds, program_memory
from mvar_jax.models import Trunk, example_inputs
from mvar_jax.ops.scale_attention import SCALE_ATTENTION, scale_attention
from mvar_jax.ops.ssd import SSD, ssd
from mvar_jax.scales import ScaleSchedule

VOCABULARY, CODE_CHANNELS = 64, 8  # of the trunk; small, so that the layers dominate the cost


@dataclass(frozen=True)
class Block:
    """A part of training in several forms with the same results, the naive one first."""

    name: str
    forms: dict[str, Callable[..., Array]]  # each takes the inputs
    inputs: tuple[PyTree, ...]  # the backward pass computes the gradients of all of them


@dataclass(frozen=True)
class Cost:
    """The cost of one form in one pass."""

    seconds: float  # median
    temporaries: int  # bytes of the compiled program besides inputs and results
    compile_seconds: float


def forward(form: Callable[..., Array]) -> Callable[..., Array]:
    """The form itself."""
    return form


def forward_and_backward(form: Callable[..., Array]) -> Callable[..., tuple[Array, PyTree]]:
    """Sum of the squared outputs, and its gradients by all inputs."""

    def both(*inputs):
        def loss(*inputs):
            return jnp.sum(jnp.square(form(*inputs).astype(jnp.float32)))

        return jax.value_and_grad(loss, argnums=tuple(range(len(inputs))))(*inputs)

    return both


PASSES = {"forward": forward, "forward+backward": forward_and_backward}


def measure(block: Block, passes: str, repeats: int) -> dict[str, Cost]:
    """Compiles every form for one of `PASSES`, and runs them `repeats` times, alternating."""
    programs, temporaries, compiling = {}, {}, {}
    for name, form in block.forms.items():
        compiled, compiling[name] = compile_timed(jax.jit(PASSES[passes](form)), *block.inputs)
        programs[name] = partial(compiled, *block.inputs)
        temporaries[name] = program_memory(compiled).temporaries
    seconds = median_seconds(programs, repeats)
    return {name: Cost(seconds[name], temporaries[name], compiling[name]) for name in programs}


def training_blocks(config: ModelConfig, schedule: ScaleSchedule, batch: int) -> tuple[Block, ...]:
    """Attention, state-space layer and trunk as M-VAR of this config trains them."""
    makers = (attention_block, state_space_block, trunk_block)
    return tuple(make(config, schedule, batch) for make in makers)


def attention_block(config: ModelConfig, schedule: ScaleSchedule, batch: int) -> Block:
    """Attention inside scales, also by the fused kernel if the config uses it."""
    heads, dim = config.heads, config.head_dim

    def apart(form, **options):
        def run(*inputs):
            split = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in inputs)
            mixed = form(*split, slices=schedule.slices, softmax_scale=dim**-0.5, **options)
            return rearrange(mixed, "b h n d -> b n (h d)")

        return run

    forms = {
        "dense, masked": apart(dense_attention),
        "by groups of scales": apart(scale_attention, reach="scale", implementation="xla"),
    }
    picked = SCALE_ATTENTION.pick(config.kernels, heads=heads, dim=dim).name
    if picked != "xla":
        forms["fused kernel"] = apart(scale_attention, reach="scale", implementation=picked)
    shape = (batch, schedule.total, config.width)
    token = jax.ShapeDtypeStruct(shape, config.compute_dtype)
    return Block("attention", forms, random_arrays((token,) * 3, spread=1.0))


def state_space_block(config: ModelConfig, schedule: ScaleSchedule, batch: int) -> Block:
    """The recurrence of Mamba-2, also by the fused kernel if the config uses it."""
    ssm, inner, heads = config.ssm, config.ssm_width, config.ssm_heads

    def apart(form):
        def run(x, *rest):
            y = form(rearrange(x, "b n (h d) -> b n h d", h=heads), *rest)
            return rearrange(y, "b n h d -> b n (h d)")

        return run

    def ours(implementation):
        options = {"chunk": ssm.chunk, "return_state": False, "implementation": implementation}
        return apart(lambda *inputs: ssd(*inputs, **options)[0])

    forms = {"scan over tokens": apart(ssd_by_scan), "chunked": ours("xla")}
    sizes = {"heads": heads, "dim": ssm.head_dim, "state_size": ssm.state_size}
    dtype = config.compute_dtype
    picked = SSD.pick(config.kernels, **sizes, stateful=False, dtype=dtype).name
    if picked != "xla":
        forms["fused kernel"] = ours(picked)

    def tokens(*channels, dtype=config.compute_dtype):
        return jax.ShapeDtypeStruct((batch, schedule.total, *channels), dtype)

    state = tokens(ssm.state_size)
    shapes = (tokens(inner), tokens(heads, dtype="float32"), state, state)
    x, dt, b, c = random_arrays(shapes, spread=1.0)
    dt = jax.nn.softplus(dt - 4)  # around 0.02, as at the start of training
    decay_rate = -jnp.arange(1.0, 1.0 + heads)
    return Block("state space", forms, (x, dt, decay_rate, b, c))


def trunk_block(config: ModelConfig, schedule: ScaleSchedule, batch: int) -> Block:
    """All layers of a trunk, unrolled and under a scan."""

    def trunk(scan):
        return Trunk(replace(config, scan=scan), schedule, VOCABULARY, CODE_CHANNELS)

    labels, codes = example_inputs(trunk(True), batch)
    codes = random_arrays(codes, spread=1.0)

    def run(scan):
        return lambda params: trunk(scan).apply({"params": params}, labels, codes)

    shapes = jax.eval_shape(trunk(True).init, jax.random.key(0), labels, codes)["params"]
    forms = {"unrolled layers": run(False), "scanned layers": run(True)}
    return Block("trunk", forms, (random_arrays(shapes, spread=0.02),))


def dense_attention(
    query: Float[Array, "batch heads total dim"],
    key: Float[Array, "batch heads total dim"],
    value: Float[Array, "batch heads total dim"],
    *,
    slices: Sequence[slice],
    softmax_scale: float,
) -> Float[Array, "batch heads total dim"]:
    """Attention over all tokens, with those of other scales masked away."""
    scale_of = np.repeat(np.arange(len(slices)), [own.stop - own.start for own in slices])
    logits = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=jnp.float32)
    logits = jnp.where(scale_of[:, None] == scale_of, logits * softmax_scale, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, value)


def ssd_by_scan(
    x: Float[Array, "batch n heads dim"],
    dt: Float[Array, "batch n heads"],
    decay_rate: Float[Array, "heads"],
    b: Float[Array, "batch n state"],
    c: Float[Array, "batch n state"],
) -> Float[Array, "batch n heads dim"]:
    """The outputs of `ops.ssd.ssd`, with the states of all tokens in memory at once."""
    decay = jnp.exp(dt * decay_rate)[..., None, None]
    written = (dt[..., None] * x)[..., None] * b[:, :, None, None]

    def join(left, right):
        return left[0] * right[0], left[1] * right[0] + right[1]

    states = jax.lax.associative_scan(join, (decay, written), axis=1)[1]
    return jnp.einsum("bnhds,bns->bnhd", states.astype(c.dtype), c)
