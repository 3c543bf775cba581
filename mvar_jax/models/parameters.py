"""The table of parameters: sharding, weight decay, the axis of heads, projections, and casts.

Sharding (here), weight decay (`training.optimizer`), the order of heads (`models.heads`), which
kernels low-rank adapters change (`models.adapter`) and which ones sampling holds in the compute
dtype (`models.narrowing`) follow from it. A parameter without a row is an error in all of them: a
new parameter needs a row.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from mvar_jax.array_types import PyTree, path_name
from mvar_jax.checks import check
from mvar_jax.mesh.axes import Axes, describe_mesh, devices_along


class Parameter(NamedTuple):
    """A row of the table: all parameters whose whole path matches `path`."""

    path: str  # regular expression
    axes: Axes  # of the mesh, per dimension; dimensions beyond them are replicated
    decayed: bool
    # The dimension that counts heads of self-attention, which cache policies reorder; None if
    # there is none.
    heads: int | None = None
    # Of a projection that low-rank adapters may change, the number of dimensions, behind that of
    # layers, that are its inputs; the remaining ones are its outputs. None of any other parameter.
    inputs: int | None = None
    # Whether every use of a kernel casts it to the compute dtype first. Modulation, head,
    # embeddings and what embeds a text are computed in float32; biases and convolutions, which are
    # cast too, are small.
    cast: bool = False


REPLICATED: Axes = ()
FSDP_TENSOR = ("fsdp", "tensor")  # one dimension over both axes

# The first dimension of `blocks_i` counts layers and is never split: every step of the scan over
# layers would have to fetch its layer from one device. Not decayed are the official groups:
# biases, scales of norms and queries, pos_start, pos_1LC, lvl_embed, ada_gss, and the SSM's A_log
# and D. The rank of an array does not decide, since layers are stacked and heads have an axis.
PARAMETERS = (
    # Embeddings.
    Parameter("class_embedding", (None, "fsdp"), decayed=True),
    Parameter("position_embedding", (None, "fsdp"), decayed=False),
    Parameter("start_position|level_embedding", REPLICATED, decayed=False),
    Parameter("word_embedding/kernel", (None, "fsdp"), decayed=True),
    Parameter("word_embedding/bias", REPLICATED, decayed=False),
    # Texts: [channels, 2, heads, dim], [heads, dim, width], [channels, width].
    Parameter("text/(null_features|norm_scale|pool/query)", REPLICATED, decayed=False),
    Parameter("text/pool/key_value/kernel", ("fsdp", None, "tensor", None), decayed=True),
    Parameter("text/pool/out/kernel", ("tensor", None, "fsdp"), decayed=True),
    Parameter("text/up/kernel", ("fsdp", "tensor"), decayed=True),
    Parameter("text/down/kernel", ("tensor", "fsdp"), decayed=True),
    Parameter("text/(pool/value_bias|(pool/out|up|down)/bias)", REPLICATED, decayed=False),
    # Attention: kernels are [layers, width, 3, heads, dim] and [layers, heads, dim, width].
    Parameter(
        r"blocks_\d+/attention/qkv",
        (None, "fsdp", None, "tensor", None),
        decayed=True,
        heads=3,
        inputs=1,
        cast=True,
    ),
    Parameter(
        r"blocks_\d+/attention/(query_bias|value_bias|query_scale)",
        REPLICATED,
        decayed=False,
        heads=1,
    ),
    Parameter(
        r"blocks_\d+/attention/out/kernel",
        (None, "tensor", None, "fsdp"),
        decayed=True,
        heads=1,
        inputs=2,
        cast=True,
    ),
    Parameter(r"blocks_\d+/attention/out/bias", REPLICATED, decayed=False),
    # Cross-attention: [layers, width, heads, dim], [layers, width, 2, heads, dim].
    Parameter(
        r"blocks_\d+/cross_attention/query/kernel",
        (None, "fsdp", "tensor", None),
        decayed=True,
        inputs=1,
        cast=True,
    ),
    Parameter(
        r"blocks_\d+/cross_attention/key_value/kernel",
        (None, "fsdp", None, "tensor", None),
        decayed=True,
        inputs=1,
        cast=True,
    ),
    Parameter(
        r"blocks_\d+/cross_attention/out/kernel",
        (None, "tensor", None, "fsdp"),
        decayed=True,
        inputs=2,
        cast=True,
    ),
    Parameter(
        r"blocks_\d+/(cross_attention/(value_bias|(query|out)/bias)|cross_norm/(scale|bias))",
        REPLICATED,
        decayed=False,
    ),
    # The state-space layer: [layers, width, 2, heads, dim], [layers, width, 2, state], ...
    Parameter(
        r"blocks_\d+/ssm/in_zx/kernel",
        (None, "fsdp", None, "tensor", None),
        decayed=True,
        inputs=1,
        cast=True,
    ),
    Parameter(
        r"blocks_\d+/ssm/in_bc/kernel",
        (None, "fsdp", None, None),
        decayed=True,
        inputs=1,
        cast=True,
    ),
    Parameter(
        r"blocks_\d+/ssm/in_dt/kernel", (None, "fsdp", "tensor"), decayed=True, inputs=1, cast=True
    ),
    Parameter(r"blocks_\d+/ssm/conv_(x|bc)/kernel", REPLICATED, decayed=True),
    Parameter(r"blocks_\d+/ssm/conv_(x|bc)/bias", REPLICATED, decayed=False),
    Parameter(r"blocks_\d+/ssm/(dt_bias|A_log|D|norm_scale)", REPLICATED, decayed=False),
    Parameter(
        r"blocks_\d+/ssm/out/kernel",
        (None, "tensor", None, "fsdp"),
        decayed=True,
        inputs=2,
        cast=True,
    ),
    # The feed-forward: [layers, width, hidden], [layers, hidden, width].
    Parameter(
        r"blocks_\d+/ffn/up/kernel", (None, "fsdp", "tensor"), decayed=True, inputs=1, cast=True
    ),
    Parameter(
        r"blocks_\d+/ffn/down/kernel", (None, "tensor", "fsdp"), decayed=True, inputs=1, cast=True
    ),
    Parameter(r"blocks_\d+/ffn/(up|down)/bias", REPLICATED, decayed=False),
    # Modulation, [layers, width, groups, width], is split by its outputs: vectors are computed on
    # the devices of the weights and then exchanged. They are far smaller than these weights, which
    # are a third of a trunk.
    Parameter(
        r"blocks_\d+/modulation/kernel", (None, None, None, FSDP_TENSOR), decayed=True, inputs=1
    ),
    Parameter(r"(head|shared)_modulation/kernel", (None, None, FSDP_TENSOR), decayed=True),
    Parameter(r"(blocks_\d+/|head_|shared_)modulation/bias", REPLICATED, decayed=False),
    Parameter(r"blocks_\d+/modulation_offset", REPLICATED, decayed=False),
    # The logits: [width, vocab].
    Parameter("head/kernel", ("fsdp", "tensor"), decayed=True),
    Parameter("head/bias", REPLICATED, decayed=False),
    # The tokenizer: a tenth of a large trunk, and convolutions do not split by channels.
    Parameter(r"(encoder|decoder)(/\w+)+/kernel", REPLICATED, decayed=True),
    Parameter(r"(encoder|decoder)(/\w+)+/(bias|scale)", REPLICATED, decayed=False),
    Parameter(r"(encoder|decoder)_projection/kernel", REPLICATED, decayed=True),
    Parameter(r"(encoder|decoder)_projection/bias", REPLICATED, decayed=False),
    Parameter("quantizer/codebook", REPLICATED, decayed=True),
    Parameter(r"quantizer/residual_\d+/kernel", REPLICATED, decayed=True),
    Parameter(r"quantizer/residual_\d+/bias", REPLICATED, decayed=False),
    # The discriminator of its training, of convolutions too.
    Parameter(r"discriminator/\w+/kernel", REPLICATED, decayed=True),
    Parameter(r"discriminator/\w+/(bias|scale)", REPLICATED, decayed=False),
    # The text encoder, whose heads no policy reorders: [layers, width, heads, dim],
    # [layers, heads, dim, width], [layers, width, hidden], [layers, hidden, width].
    Parameter("token_embedding", (None, "fsdp"), decayed=True),
    Parameter("position_bias", REPLICATED, decayed=True),
    Parameter(r"layers/attention/(query|key|value)", (None, "fsdp", "tensor"), decayed=True),
    Parameter("layers/attention/out", (None, "tensor", None, "fsdp"), decayed=True),
    Parameter(r"layers/ffn/(gate|up)", (None, "fsdp", "tensor"), decayed=True),
    Parameter("layers/ffn/down", (None, "tensor", "fsdp"), decayed=True),
    Parameter(r"(layers/(attention|ffn)_norm|final_norm)/scale", REPLICATED, decayed=False),
)

FACTORS = ("down", "up")  # of an adapter
# Prefixes of paths in a training state whose arrays are sharded like the parameter that the rest
# of the path names: the parameter itself, its average, and the optimizer's moments, also of what
# else is trained.
STATE_PREFIX = r"((extra/\w+/)?(params|average|opt_state(/\w+)*)/)?"
# Where a training state holds counts, rates and other numbers.
COUNTS = r"(step|skipped|(extra/\w+/)?(opt_state|numbers))(/\w+)*"
# And numbers for every code, whatever their dtype.
OF_CODES = r"extra/codes/\w+"


def parameter(path: str) -> Parameter:
    """The row of a path such as `blocks_0/ffn/up/kernel`, alone or inside a training state.

    The factors of a low-rank adapter, KERNEL/down `[layers, *inputs, rank]` and KERNEL/up `[layers,
    rank, *outputs]`, are split as the dimensions of the kernel that they share: else its gradients
    would be gathered for them. Raises ValueError unless exactly one row of the table matches the
    path.
    """
    kernel, _, factor = path.rpartition("/")
    if factor in FACTORS and kernel.endswith(("/kernel", "/qkv")):
        row = parameter(kernel)
        check(row.inputs is not None, f"parameters: {kernel} has no factors; it is no projection.")
        split = 1 + (row.inputs or 0)
        axes = (*row.axes[:split], None) if factor == "down" else (None, None, *row.axes[split:])
        return Parameter(f"{row.path}/{factor}", axes, decayed=True)
    found = [row for row in PARAMETERS if re.fullmatch(f"{STATE_PREFIX}({row.path})", path)]
    check(
        len(found) == 1,
        f"parameters: {path} matches {len(found)} rows of mvar_jax.models.parameters.PARAMETERS, "
        "expected exactly 1; write there what splits it, whether it decays and where its heads "
        "are.",
    )
    return found[0]


def param_shardings(tree: PyTree, mesh: Mesh | AbstractMesh) -> PyTree:
    """The shardings of a tree of parameters, or of a whole training state.

    Leaves are arrays or `jax.ShapeDtypeStruct`s. Raises ValueError for a parameter that the table
    does not know, and, naming path, shape and mesh, for a dimension that its axes do not divide.
    """

    def sharding(path, leaf):
        return NamedSharding(mesh, _spec(path_name(path), leaf, mesh))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def constrain_params(tree: PyTree, stack: str = "") -> PyTree:
    """Constrains parameters, or their gradients, to the shardings of the table; needs no mesh.

    With `stack`, `tree` is one layer sliced from the stack of that name. It is constrained like the
    stack, so that its gradients are reduce-scattered instead of all-reduced.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return tree

    def constrained(path, leaf):
        if not stack:
            return jax.lax.with_sharding_constraint(leaf, _spec(path_name(path), leaf, mesh))
        whole = jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)
        spec = _spec(f"{stack}/{path_name(path)}", whole, mesh)
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*spec[1:]))

    return jax.tree_util.tree_map_with_path(constrained, tree)


def _spec(path: str, leaf: PyTree, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    counts = leaf.ndim == 0 or not jnp.issubdtype(leaf.dtype, jnp.inexact)
    if re.fullmatch(OF_CODES, path) or (counts and re.fullmatch(COUNTS, path)):
        return PartitionSpec()
    axes = parameter(path).axes
    for names, size in zip(axes, leaf.shape):
        parts = devices_along(names, mesh)
        check(
            size % parts == 0,
            f"sharding: cannot split {size} into {parts} ({names}) in {path} of shape "
            f"{leaf.shape} on the mesh {describe_mesh(mesh)}; change the mesh or the size.",
        )
    return PartitionSpec(*axes)
