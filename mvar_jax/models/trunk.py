"""The trunk: embeddings, blocks and head of VAR, M-VAR, Infinity and mixtures, defined once."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Key, PyTree, batch_size
from mvar_jax.cache import AttentionShape, Compression, prepare_compression
from mvar_jax.checks import check
from mvar_jax.config import Config, ModelConfig
from mvar_jax.mesh.axes import constrain
from mvar_jax.models.block import Block, Modulation
from mvar_jax.models.block_stack import AfterBlock, BlockStack, Layers, Memory
from mvar_jax.models.conditioner import (
    ClassConditioner,
    Condition,
    Conditioner,
    Embedded,
    choose,
)
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layer_kernels import with_kernels
from mvar_jax.models.layers import Projection, linear_std, modulated_norm
from mvar_jax.models.text_conditioner import TextConditioner
from mvar_jax.ops.module import Module
from mvar_jax.ops.noise import uniform_per_image
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import build_tokenizer


class Conditioning(NamedTuple):
    """Everything that depends on the condition alone; computed once, used at every scale."""

    start: Array  # tokens of the first scale before embedding, [batch, n_0, width]
    blocks: tuple[PyTree, ...]  # by index in the pattern, `BlockCondition`s stacked over layers
    head: Array  # scale and shift of the last norm, [batch, 2, width]


class Trunk(Module):
    """Predicts the tokens of every scale from the condition and the coarser scales.

    Calling it is the teacher-forced pass over all scales; `prepare`, `empty_memory` and
    `decode_scale` are the same mathematics scale by scale. Parameters are a plain dict whose
    layout depends only on `pattern`: `blocks_i` stacks, on axis 0, the layers at index i of the
    pattern, with or without scan, rematerialisation and cache policies.

    `schedule` is the one that learned positions are for. Methods take the schedule to run, by
    default this one, static under jit; they raise ValueError for one that the positions do not fit.
    Rotary positions fit any of at most so many scales as the trunk has levels.

    A second collection, "kernels", may hold what `layer_kernels.kernels_by_layer` returns of the
    parameters: `decode_scale` then takes the kernels from there.
    """

    config: ModelConfig
    schedule: ScaleSchedule
    logits: int  # for every token, see the tokenizer's token space
    code_channels: int

    def setup(self):
        """Embeddings, stacked blocks, head."""
        config, width = self.config, self.config.width
        std = linear_std(width)
        start = nn.initializers.normal(std)
        if config.condition == "text":
            self.text = TextConditioner(config)
        else:
            classes = (config.num_classes + 1, width)
            self.class_embedding = self.param("class_embedding", start, classes)
        self.start_position = self.param("start_position", start, (self.schedule.lengths[0], width))
        if config.positions == "learned":
            positions = (self.schedule.total, width)
            self.position_embedding = self.param("position_embedding", start, positions)
        self.level_embedding = self.param("level_embedding", start, (self.levels, width))
        self.word_embedding = Projection((self.code_channels,), (width,), std)
        self.block_params = [self._stacked(i) for i in range(len(config.kinds))]
        if config.shared_modulation:
            groups = config.kinds[0].groups
            self.shared_modulation = Modulation(width, groups, (1.0,) * groups)
        self.head_modulation = Modulation(width, 2, (config.init.modulation,) * 2)
        self.head = Projection((width,), (self.logits,), std * config.init.head)

    @property
    def _stack(self) -> BlockStack:
        return BlockStack(self.config)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One unbound block per index in the pattern; parameters are given when it is applied."""
        return self._stack.blocks

    @property
    def levels(self) -> int:
        """The most scales that a schedule may have."""
        return self.config.levels or len(self.schedule)

    @property
    def conditioner(self) -> Conditioner:
        """What embeds the conditions."""
        if self.config.condition == "text":
            return self.text
        return ClassConditioner(self.class_embedding)

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of activations."""
        return jnp.dtype(self.config.compute_dtype)

    def _stacked(self, index):
        def start(key):
            def one(key):
                return self.blocks[index].init(key, method="initialize")["params"]

            return jax.vmap(one)(jax.random.split(key, self.config.repeats))

        return self.param(f"blocks_{index}", start)

    def __call__(
        self,
        condition: Condition,
        inputs: Float[Array, "batch _ code"],
        keys: Key[Array, "batch"] | None = None,
        *,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch total logits"]:
        """Teacher-forced logits of all scales, float32.

        `inputs` are the tokenizer's teacher-forcing inputs of all scales but the first. For
        training, `keys` has one key per image, from which dropped conditions and stochastic depth
        are drawn.
        """
        if self.is_initializing():
            return self._initialize(condition, inputs, schedule)
        drops = None
        if keys is not None:
            dropped = uniform_per_image(keys) < self.config.class_drop_rate
            condition = choose(dropped, self.conditioner.null(condition), condition)
            drops = self._stack.draw_drops(keys)
        context = ScaleContext(self._fitting(schedule))
        conditioning = self.prepare(condition)
        x = self._embed(conditioning, inputs, context)
        x, _ = self._run(x, conditioning, context, None, drops)
        return self._logits(x, conditioning)

    def _initialize(self, condition, inputs, schedule):
        """Uses every parameter once, for `init`: what runs the blocks takes seconds to trace."""
        vectors, _ = self.conditioner.embed(condition)
        self.word_embedding(inputs)
        if self.config.shared_modulation:
            self.shared_modulation(vectors)
        self.head_modulation(vectors)
        self.head(vectors)
        total = self._fitting(schedule).total
        return jnp.zeros((batch_size(condition), total, self.logits))

    def null(self, condition: Condition) -> Condition:
        """The unconditional condition for as many images, for guidance."""
        return self.conditioner.null(condition)

    def prepare(self, condition: Condition) -> Conditioning:
        """Everything that depends on the condition alone."""
        vectors, text = self.conditioner.embed(condition)
        vectors = constrain(vectors, "condition")
        if text is not None:
            text = text._replace(tokens=constrain(text.tokens, "text"))
        shared = self.shared_modulation(vectors) if self.config.shared_modulation else None

        def prepare(block, stacked):
            def one(params, vectors):
                embedded = Embedded(vectors, text)
                return block.apply({"params": params}, embedded, shared, method="prepare")

            # A copy for every layer, since a product with all kernels would transpose their stack.
            copies = jnp.broadcast_to(vectors, (self.config.repeats, *vectors.shape))
            made = jax.vmap(one)(stacked, copies)
            modulation = constrain(constrain(made.modulation, "modulation_made"), "modulation")
            return made._replace(modulation=modulation, text=_constrained_text(made.text))

        return Conditioning(
            start=vectors[:, None] + self.start_position,
            blocks=tuple(map(prepare, self.blocks, self.block_params)),
            head=self.head_modulation(vectors),
        )

    @property
    def attention_shape(self) -> AttentionShape:
        """The blocks that attend over the history, in order of depth, and their heads."""
        layers = self.config.repeats * len(self.config.history_positions)
        return AttentionShape(layers, self.config.heads)

    def empty_memory(
        self,
        batch: int,
        compression: Compression | None = None,
        *,
        schedule: ScaleSchedule | None = None,
    ) -> Memory:
        """The memory of all blocks before the first scale, for `batch` rows.

        Without `compression` attention caches everything. Raises ValueError for a compression
        that was planned for another schedule.
        """
        schedule = self._fitting(schedule)
        if compression is None and self.attention_shape.layers:
            compression = prepare_compression("full", schedule, self.attention_shape)
        check(
            compression is None or compression.schedule == schedule,
            "policy: it was planned for other scales than those to draw; prepare it for this "
            "schedule.",
        )
        return self._stack.empty_memory(batch, compression)

    def decode_scale(
        self,
        conditioning: Conditioning,
        inputs: Float[Array, "batch n code"] | None,
        scale: int,
        memory: Memory,
        *,
        schedule: ScaleSchedule | None = None,
        after_block: AfterBlock | None = None,
    ) -> tuple[Float[Array, "batch n logits"], Memory]:
        """Logits of one scale, float32, and the memory for the next.

        `inputs` is what the tokenizer's `accumulate` returned for this scale, None at scale 0.
        `after_block` changes the tokens between two blocks, given the index of the one before.
        Nothing of earlier scales is recomputed.
        """
        context = ScaleContext(self._fitting(schedule), scale)
        x = self._embed(conditioning, inputs, context)
        x, memory = self._run(x, conditioning, context, memory, after_block=after_block)
        return self._logits(x, conditioning), memory

    def _fitting(self, schedule: ScaleSchedule | None) -> ScaleSchedule:
        """The schedule to run: that of the learned positions, or the first scales of it.

        Positions are learned per scale, so the coarser scales alone are drawn as in a whole image.
        Rotary positions fit any schedule whose first scale is as long and whose scales have levels.
        Raises ValueError for any other schedule.
        """
        if schedule is None:
            return self.schedule
        if self.config.positions == "rotary":
            first = self.schedule.lengths[0]
            check(
                len(schedule) <= self.levels and schedule.lengths[0] == first,
                f"scales: got {schedule}, but the model starts with {first} tokens and has levels "
                f"for {self.levels} scales; use such a schedule.",
            )
            return schedule
        check(
            schedule.sizes == self.schedule.sizes[: len(schedule)],
            f"scales: got {schedule}, but the model's learned positions are for {self.schedule}; "
            "use these, or the first of them.",
        )
        return schedule

    def _embed(self, conditioning, inputs, context) -> Float[Array, "batch n width"]:
        """The input of the first block: embedded codes, or the start, plus level and position.

        It is that of one scale, or of all scales joined. `inputs` lack the first scale.
        """
        schedule, scale = context.schedule, context.scale
        parts = [] if scale else [conditioning.start]
        if scale != 0:
            parts.append(self.word_embedding(inputs))
        levels = np.repeat(np.arange(len(schedule)), schedule.lengths)
        own = slice(0, schedule.total) if scale is None else schedule.slices[scale]
        positions = self.level_embedding[levels[own]]
        if self.config.positions == "learned":
            positions = positions + self.position_embedding[own]
        x = (jnp.concatenate(parts, axis=1) + positions).astype(self.dtype)
        return constrain(x, "activation")

    def _run(self, x, conditioning, context, memory, drops=None, after_block=None):
        """The tokens after all blocks, and the memory for the next scale; see `BlockStack.run`."""
        params = tuple(self.block_params)
        if memory is not None:
            params = tuple(map(self._by_layer, range(len(params))))
        layers = Layers(params, conditioning.blocks, drops)
        return self._stack.run(x, layers, context, memory, after_block=after_block)

    def _by_layer(self, index):
        """The parameters at an index of the pattern, with kernels layer by layer if they are."""
        params, kernels = self.block_params[index], self.get_variable("kernels", f"blocks_{index}")
        return params if kernels is None else with_kernels(params, kernels)

    def _logits(self, x, conditioning):
        x = x.astype(jnp.promote_types(self.dtype, jnp.float32))
        scale, shift = conditioning.head[:, 0], conditioning.head[:, 1]
        x = modulated_norm(x, scale, shift, self.config.norm_epsilon)
        return constrain(self.head(x), "logits")


def _constrained_text(text):
    """The keys and values of a text for all layers, sharded like the images and heads."""
    if text is None:
        return None
    key, value = (constrain(array, "text_keys") for array in (text.key, text.value))
    return text._replace(key=key, value=value)


def build_trunk(config: Config) -> Trunk:
    """The trunk of a config; schedule, number of logits and input channels are the tokenizer's."""
    tokenizer = config.tokenizer
    logits = build_tokenizer(tokenizer).token_space.logits
    return Trunk(config.model, tokenizer.schedule, logits, tokenizer.token_channels)
