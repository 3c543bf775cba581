"""The blocks of a trunk in order: how they run, and what they remember from scale to scale."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Key, PyTree
from mvar_jax.cache import Compression, LayerMemory
from mvar_jax.config import BRANCHES, ModelConfig
from mvar_jax.mesh.axes import constrain
from mvar_jax.models.block import Block, Drops, empty_state
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layer_kernels import LayerKernels
from mvar_jax.models.parameters import constrain_params
from mvar_jax.ops.attention import KEPT
from mvar_jax.ops.noise import fold_each, uniform_per_image


@flax.struct.dataclass
class Run:
    """The memory of consecutive repetitions of the pattern whose memories have the same shapes.

    It is that of the repetitions `start` to `stop - 1`, stacked on a leading axis, so that one
    scan runs over them. See `BlockStack.run` for the shapes.
    """

    layers: tuple[LayerMemory, ...] | None  # by index in the pattern, repetitions stacked
    start: int = flax.struct.field(pytree_node=False)
    stop: int = flax.struct.field(pytree_node=False)


Memory = tuple[Run, ...]
AfterBlock = Callable[[Array, Array], Array]

# What is saved for the backward pass: matmuls with weights, which have no batch dimension, and
# results of attention in plain JAX. Its kernels, which are faster, compute them again.
REMAT_POLICIES = {
    "products": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(KEPT),
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}


DEPTH_STREAM = 1  # folded into an image's key before drawing stochastic depth


class Layers(NamedTuple):
    """What the blocks do not share, by index in the pattern, stacked over its repetitions.

    Scale by scale the kernels among `params` may be `LayerKernels` instead.
    """

    params: tuple[PyTree, ...]
    conditions: tuple[PyTree, ...]  # `BlockCondition`s
    drops: tuple[Drops, ...] | None = None


@dataclass(frozen=True)
class BlockStack:
    """The repetitions of a trunk's pattern of blocks, without their parameters."""

    config: ModelConfig

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One unbound block per index in the pattern; parameters are given when it is applied."""
        return tuple(Block(self.config, kind, parent=None) for kind in self.config.kinds)

    def empty_memory(self, batch: int, compression: Compression | None) -> Memory:
        """The memory of all blocks before the first scale, for `batch` rows.

        `compression` is None only for blocks that do not attend over the history.
        """
        repeats = self.config.repeats
        repetitions = [self._empty_repetition(i, batch, compression) for i in range(repeats)]
        structures = [jax.tree.structure(layers) for layers in repetitions]
        starts = [
            i
            for i in range(repeats)
            # JAX's stubs lack the type of a tree's structure.
            if i == 0 or structures[i] != structures[i - 1]  # type: ignore[operator]
        ]
        return tuple(
            Run(jax.tree.map(lambda *a: jnp.stack(a), *repetitions[start:stop]), start, stop)
            for start, stop in zip(starts, [*starts[1:], repeats])
        )

    def _empty_repetition(self, repeat, batch, compression):
        """The memory of the blocks of one repetition of the pattern."""
        config, history, layers = self.config, self.config.history_positions, []
        dtype = jnp.dtype(config.compute_dtype)
        for index, kind in enumerate(config.kinds):
            cache, state = None, None
            if index in history:
                layer = repeat * len(history) + history.index(index)
                cache = compression.empty_layer(layer, batch, config.head_dim, dtype)
            if kind.ssm:
                state = empty_state(config, batch, dtype)
            layers.append(LayerMemory(cache, state))
        return tuple(layers)

    def draw_drops(self, keys: Key[Array, "batch"]) -> tuple[Drops, ...] | None:
        """Stochastic depth by index in the pattern, stacked over its repetitions; None for none.

        Every draw has its own key, folded from the image's key, the layer and the branch.
        """
        if self.config.drop_path_rate == 0:
            return None
        keys, depth = fold_each(keys, DEPTH_STREAM), self.config.depth

        def draw(layer, branch):
            return uniform_per_image(fold_each(fold_each(keys, layer), branch))

        over_branches = jax.vmap(draw, in_axes=(None, 0))
        layers, branches = jnp.arange(depth), jnp.arange(len(BRANCHES))
        draws = jax.vmap(over_branches, in_axes=(0, None))(layers, branches)
        rates = jnp.linspace(0, self.config.drop_path_rate, depth, dtype=jnp.float32)
        kinds = len(self.config.kinds)
        return tuple(Drops(rates[i::kinds], draws[i::kinds]) for i in range(kinds))

    def run(
        self,
        x: Float[Array, "batch n width"],
        layers: Layers,
        context: ScaleContext,
        memory: Memory | None = None,
        *,
        after_block: AfterBlock | None = None,
    ) -> tuple[Float[Array, "batch n width"], Memory | None]:
        """Runs all blocks in order: a loop over the repetitions of the pattern.

        x: the tokens of one scale, or teacher-forced (`memory` None) those of all scales
        layers: teacher-forced, one scan runs over them
        memory: of the scales before
        after_block: changes the tokens between two blocks, given the index of the one before

        A memory is a tuple of `Run`s. A trunk of depth 6 with the pattern ("scale+ssm", "history")
        has 3 repetitions. With a full cache they are alike, and the memory is a single run of start
        0 and stop 3, whose `layers` are two `LayerMemory`s:

            layers[0].ssm.tail_x                [3, batch, conv_size - 1, inner]
            layers[0].ssm.tail_bc               [3, batch, conv_size - 1, 2 * state]
            layers[0].ssm.state                 [3, batch, ssm_heads, ssm_dim, state]
            layers[1].cache.groups[0].key       [3, batch, heads, m, dim], also value
            layers[1].cache.groups[0].position  [3, batch, heads, m]

        Here `batch` counts rows of guidance, two per image, and m the tokens of all earlier scales.
        A policy may keep other numbers of tokens in other layers. If only the last layer keeps
        fewer, the memory has two runs: start 0 and stop 2 with arrays [2, ...], then start 2 and
        stop 3 with arrays [1, ...].

        Returns the tokens, and the memory for the next scale in runs of the same start and stop.
        """

        def repetition(x, layers, memories, index=None):
            remembered = []
            for i, block in enumerate(self.blocks):
                own = None if memories is None else memories[i]
                drop = None if layers.drops is None else layers.drops[i]
                params = constrain_params(layers.params[i], f"blocks_{i}")
                condition = layers.conditions[i]
                x, own = block.apply({"params": params}, x, condition, context, own, drop)
                x = constrain(x, "activation")
                if after_block is not None:
                    x = after_block(x, index * len(self.blocks) + i)
                remembered.append(own)
            return x, None if memories is None else tuple(remembered)

        if self.config.remat != "none":
            policy = REMAT_POLICIES[self.config.remat]
            scan = self.config.scan
            repetition = jax.checkpoint(repetition, prevent_cse=not scan, policy=policy)
        if memory is None and self.config.scan:
            return jax.lax.scan(lambda x, layers: repetition(x, layers, None), x, layers)

        def numbered(x, index_and_memories):
            index, memories = index_and_memories
            own = jax.tree.map(lambda array: array[index], layers, is_leaf=_is_by_layer)
            return repetition(x, own, memories, index)

        runs = memory or (Run(None, 0, self.config.repeats),)
        remembered = []
        for run in runs:
            x, own = self._loop(numbered, x, run)
            remembered.append(replace(run, layers=own))
        return x, None if memory is None else tuple(remembered)

    def _loop(self, body, x, run):
        """Applies `body` to the repetitions of a run, in one scan if there are several.

        `body` gets the index of a repetition and its memory, without the leading axis.
        """
        if self.config.scan and run.stop - run.start > 1:
            # Parameters are indexed inside the scan, since a slice of the stack would be a copy.
            return jax.lax.scan(body, x, (jnp.arange(run.start, run.stop), run.layers))
        remembered = []
        for index in range(run.start, run.stop):
            own = jax.tree.map(lambda array, i=index: array[i - run.start], run.layers)
            x, own = body(x, (index, own))
            remembered.append(own)
        return x, jax.tree.map(lambda *arrays: jnp.stack(arrays), *remembered)


def _is_by_layer(leaf: PyTree) -> bool:
    return isinstance(leaf, LayerKernels)
