"""The trunk: embeddings, blocks and head of VAR, M-VAR and their mixtures, defined once."""

from typing import NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.array_types import Array, Float, Int, Key
from mvar_jax.cache import AttentionShape, Compression, LayerMemory, prepare_compression
from mvar_jax.config import MAX_BRANCHES, Config, ModelConfig
from mvar_jax.mesh.axes import constrain
from mvar_jax.models.block import Block, Modulation, empty_state
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layers import Projection, linear_std, modulated_norm
from mvar_jax.models.parameters import constrain_params
from mvar_jax.ops.noise import uniform_per_image
from mvar_jax.scales import ScaleSchedule


@flax.struct.dataclass
class Run:
    """The memory of repetitions of the pattern that follow each other and are shaped alike."""

    layers: tuple[LayerMemory, ...] | None  # per place in the pattern, repetitions stacked
    start: int = flax.struct.field(pytree_node=False)
    stop: int = flax.struct.field(pytree_node=False)


Memory = tuple[Run, ...]

# What the backward pass finds saved; products with weights have no batch dimension.
REMAT_POLICIES = {
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Conditioning(NamedTuple):
    """What a label contributes; computed once, used at every scale."""

    start: Array  # tokens of the first scale before embedding, [batch, n_0, width]
    blocks: tuple[Array, ...]  # per place in the pattern, [layers, batch, groups, width]
    head: Array  # scale and shift of the last norm, [batch, 2, width]


class Trunk(nn.Module):
    """Predicts the tokens of every scale from the label and the coarser scales.

    Calling it is the teacher-forced pass over all scales; `condition`, `empty_memory` and
    `decode_scale` are the same mathematics scale by scale. Parameters are a plain dict whose
    layout depends only on `pattern`: `blocks_i` stacks, on axis 0, the layers at place i of the
    pattern, however they are run.
    """

    config: ModelConfig
    schedule: ScaleSchedule
    vocabulary: int
    code_channels: int

    def setup(self):
        """Embeddings, stacked blocks, head."""
        config, width = self.config, self.config.width
        std = linear_std(width)
        normal = nn.initializers.normal(std)
        self.class_embedding = self.param(
            "class_embedding", normal, (config.num_classes + 1, width)
        )
        self.start_position = self.param(
            "start_position", normal, (self.schedule.lengths[0], width)
        )
        self.position_embedding = self.param(
            "position_embedding", normal, (self.schedule.total, width)
        )
        self.level_embedding = self.param("level_embedding", normal, (len(self.schedule), width))
        self.word_embedding = Projection((self.code_channels,), (width,), std)
        self.block_params = [self._stacked(i) for i in range(len(config.kinds))]
        if config.shared_modulation:
            groups = 3 * config.kinds[0].branches
            self.shared_modulation = Modulation(width, groups, (1.0,) * groups)
        self.head_modulation = Modulation(width, 2, (config.init.modulation,) * 2)
        self.head = Projection((width,), (self.vocabulary,), std * config.init.head)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One unbound block per place in the pattern; parameters are given when it is applied."""
        return tuple(Block(self.config, kind, parent=None) for kind in self.config.kinds)

    @property
    def repeats(self) -> int:
        """How often the pattern is repeated."""
        return self.config.depth // len(self.config.kinds)

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of activations."""
        return jnp.dtype(self.config.compute_dtype)

    def _stacked(self, place):
        def start(key):
            def one(key):
                return self.blocks[place].init(key, method="initialize")["params"]

            return jax.vmap(one)(jax.random.split(key, self.repeats))

        return self.param(f"blocks_{place}", start)

    def __call__(
        self,
        labels: Int[Array, "batch"],
        inputs: Float[Array, "batch _ code"],
        keys: Key[Array, "batch"] | None = None,
    ) -> Float[Array, "batch total vocab"]:
        """Teacher-forced logits of all scales, float32.

        `labels` are class indices, `num_classes` for none; `inputs` are the tokenizer's
        teacher-forcing inputs of all scales but the first. For training, `keys` has one per
        image: labels are dropped, and depth is stochastic, as the image's key says.
        """
        drops = None
        if keys is not None:
            draws = uniform_per_image(keys, 1 + self.config.depth * MAX_BRANCHES)
            dropped = draws[:, 0] < self.config.class_drop_rate
            labels = jnp.where(dropped, self.config.num_classes, labels)
            drops = self._drops(draws[:, 1:])
        conditioning = self.condition(labels)
        x = self.embed(conditioning, inputs)
        x, _ = self._run(x, conditioning, ScaleContext(self.schedule), None, drops)
        return self._logits(x, conditioning)

    def condition(self, labels: Int[Array, "batch"]) -> Conditioning:
        """Everything that depends on the label alone."""
        condition = constrain(self.class_embedding[labels], "condition")
        shared = self.shared_modulation(condition) if self.config.shared_modulation else None

        def modulate(block, stacked):
            def one(params):
                return block.apply({"params": params}, condition, shared, method="modulate")

            made = constrain(jax.vmap(one)(stacked), "modulation_made")
            return constrain(made, "modulation")

        return Conditioning(
            start=condition[:, None] + self.start_position,
            blocks=tuple(map(modulate, self.blocks, self.block_params)),
            head=self.head_modulation(condition),
        )

    @property
    def attention_shape(self) -> AttentionShape:
        """The blocks that attend over the history, in order of depth, and their heads."""
        places = sum(kind.attention_reach == "history" for kind in self.config.kinds)
        return AttentionShape(self.repeats * places, self.config.heads)

    def empty_memory(self, batch: int, compression: Compression | None = None) -> Memory:
        """The memory of all blocks before the first scale, for `batch` rows.

        Without `compression` attention remembers everything.
        """
        if compression is None and self.attention_shape.layers:
            compression = prepare_compression("full", self.schedule, self.attention_shape)
        repetitions = [self._empty_repetition(i, batch, compression) for i in range(self.repeats)]
        structures = [jax.tree.structure(layers) for layers in repetitions]
        starts = [i for i in range(self.repeats) if i == 0 or structures[i] != structures[i - 1]]
        return tuple(
            Run(jax.tree.map(lambda *a: jnp.stack(a), *repetitions[start:stop]), start, stop)
            for start, stop in zip(starts, [*starts[1:], self.repeats])
        )

    def _empty_repetition(self, repeat, batch, compression):
        """The memory of the blocks of one repetition of the pattern."""
        reaches = [kind.attention_reach == "history" for kind in self.config.kinds]
        layers = []
        for place, kind in enumerate(self.config.kinds):
            cache, state = None, None
            if reaches[place]:
                layer = repeat * sum(reaches) + sum(reaches[:place])
                cache = compression.empty_layer(layer, batch, self.config.head_dim, self.dtype)
            if kind.ssm:
                state = empty_state(self.config, batch, self.dtype)
            layers.append(LayerMemory(cache, state))
        return tuple(layers)

    def decode_scale(
        self,
        conditioning: Conditioning,
        inputs: Float[Array, "batch n code"] | None,
        scale: int,
        memory: Memory,
    ) -> tuple[Float[Array, "batch n vocab"], Memory]:
        """Logits of one scale, float32, and the memory for the next.

        `inputs` is what the tokenizer's `accumulate` returned for this scale, None at scale 0.
        Nothing of earlier scales is computed again.
        """
        x = self.embed(conditioning, inputs, scale)
        context = ScaleContext(self.schedule, scale)
        x, memory = self._run(x, conditioning, context, memory)
        return self._logits(x, conditioning), memory

    def embed(
        self,
        conditioning: Conditioning,
        inputs: Float[Array, "batch _ code"] | None,
        scale: int | None = None,
    ) -> Float[Array, "batch n width"]:
        """The blocks' input: words or start, with level and position added.

        Of one scale, or of all joined when `scale` is None; `inputs` leave the first scale out.
        """
        parts = [] if scale else [conditioning.start]
        if scale != 0:
            parts.append(self.word_embedding(inputs))
        levels = np.repeat(np.arange(len(self.schedule)), self.schedule.lengths)
        own = slice(None) if scale is None else self.schedule.slices[scale]
        places = self.level_embedding[levels[own]] + self.position_embedding[own]
        x = (jnp.concatenate(parts, axis=1) + places).astype(self.dtype)
        return constrain(x, "activation")

    def _run(self, x, conditioning, context, memory, drops=None):
        """All blocks in order: the pattern's blocks inside a loop over its repetitions."""
        layers = (tuple(self.block_params), conditioning.blocks, drops)

        def repetition(x, layers, memories):
            params, modulations, drops = layers
            remembered = []
            for i, block in enumerate(self.blocks):
                own = None if memories is None else memories[i]
                drop = None if drops is None else jax.tree.map(lambda a, i=i: a[i], drops)
                layer = constrain_params(params[i], f"blocks_{i}")
                x, own = block.apply({"params": layer}, x, modulations[i], context, own, drop)
                x = constrain(x, "activation")
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
            return repetition(x, jax.tree.map(lambda array: array[index], layers), memories)

        runs = memory or (Run(None, 0, self.repeats),)
        remembered = []
        for run in runs:
            x, own = self._loop(numbered, x, run)
            remembered.append(run.replace(layers=own))
        return x, None if memory is None else tuple(remembered)

    def _loop(self, body, x, run):
        """The repetitions of a run, by one scan where there are several."""
        if self.config.scan and run.stop - run.start > 1:
            # Parameters are picked by number inside, since a slice of them would be a copy.
            return jax.lax.scan(body, x, (jnp.arange(run.start, run.stop), run.layers))
        remembered = []
        for index in range(run.start, run.stop):
            own = jax.tree.map(lambda array, i=index: array[i - run.start], run.layers)
            x, own = body(x, (index, own))
            remembered.append(own)
        return x, jax.tree.map(lambda *arrays: jnp.stack(arrays), *remembered)

    def _drops(self, draws):
        """Rates of stochastic depth `[repeats, places]` and draws `[..., branches, batch]`."""
        if self.config.drop_path_rate == 0:
            return None
        places = len(self.config.kinds)
        rates = jnp.linspace(0, self.config.drop_path_rate, self.config.depth)
        order = "batch (repeats places branches) -> repeats places branches batch"
        draws = rearrange(draws, order, places=places, branches=MAX_BRANCHES)
        return rates.reshape(self.repeats, places), draws

    def _logits(self, x, conditioning):
        x = x.astype(jnp.promote_types(self.dtype, jnp.float32))
        scale, shift = conditioning.head[:, 0], conditioning.head[:, 1]
        x = modulated_norm(x, scale, shift, self.config.norm_epsilon)
        return constrain(self.head(x), "logits")


def build_trunk(config: Config) -> Trunk:
    """The trunk of an experiment; its schedule, vocabulary and codes are the tokenizer's."""
    tokenizer = config.tokenizer
    return Trunk(config.model, tokenizer.schedule, tokenizer.vocabulary, tokenizer.code_channels)
