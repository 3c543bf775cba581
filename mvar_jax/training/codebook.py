"""What a step of the tokenizer's training does for the codes, and what it sees of their use.

`CodebookCare` is asked four times: for a state's arrays, for draws before a batch is computed,
for what a part of the batch adds to loss and metrics, and for the state after the update.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float, Int, Key, PyTree, batch_size, path_name
from mvar_jax.config import CodebookConfig
from mvar_jax.models.parameters import constrain_params
from mvar_jax.ops.noise import fold_each, make_key, uniform_per_image
from mvar_jax.ops.quantize import bit_entropies
from mvar_jax.tokenizers import Tokenizer
from mvar_jax.tokenizers.training_pass import TrainingPass
from mvar_jax.training.losses import Metrics
from mvar_jax.training.state import TrainState

# Folded into an image's key of a step; lower ones are of the trunk and of the adversary.
DEPTH_STREAM, POSITION_STREAM = 7, 8
ORDER_STREAM = 2**31  # folded into a step's key; above any row of a batch
SEEN = "codes"  # in metrics, what is seen of codes; in a state's `extra`, what is kept of them
CODEBOOK = "quantizer/codebook"


@dataclass(frozen=True)
class CodebookCare:
    """What is done for the codes of a tokenizer.

    tokenizer, config: the tokenizer, and what to do
    seed: of all draws, which follow from it, the step and the image's row in the batch
    parts: in which a batch is computed, one after another
    """

    tokenizer: Tokenizer
    config: CodebookConfig
    seed: int = 0
    parts: int = 1

    def start(self) -> dict[str, PyTree]:
        """What is kept of codes in a state's `extra`, before the first update; maybe nothing.

        With restarts these are, as `codes`, the moving average of the `use` of every code, float32
        `[vocab]`, 1 for the mean code, and how many codes were `restarted` so far, int32.
        """
        if not self.config.restart_below:
            return {}
        use = jnp.ones(self.tokenizer.config.vocabulary)
        return {SEEN: {"use": use, "restarted": jnp.zeros([], jnp.int32)}}

    def with_draws(self, batch: dict[str, Array], step: Int[Array, ""]) -> dict[str, Array]:
        """The batch, with the depth, the row and the key of every image, as far as they are used.

        A share `dropout_rate` of the depths is uniform from `dropout_from` to all scales but one;
        the others are all scales.
        """
        config, scales = self.config, len(self.tokenizer.schedule)
        rows = jnp.arange(batch_size(batch))
        keys = jax.vmap(lambda row: jax.random.fold_in(self._step_key(step), row))(rows)
        if config.dropout_rate:
            own = fold_each(keys, DEPTH_STREAM)
            dropped = uniform_per_image(own) < config.dropout_rate
            share = uniform_per_image(fold_each(own, 1))
            depth = config.dropout_from + jnp.floor(share * (scales - config.dropout_from))
            batch = batch | {"depth": jnp.where(dropped, depth.astype(jnp.int32), scales)}
        if config.restart_below:
            batch = batch | {"row": rows, "key": keys}
        return batch

    def observe(
        self, made: TrainingPass, part: dict[str, Array]
    ) -> tuple[tuple[Array, Float[Array, ""]], tuple[PyTree, Metrics]]:
        """What a pass over a part of a batch gives: with gradients, and besides.

        The reconstruction and the quantizer's loss with that of entropy, which is the part's; then
        what is seen of codes, for `after`, and metrics.
        """
        space = self.tokenizer.token_space
        seen: PyTree = {"counts": [space.count(scale.tokens) for scale in made.scales]}
        if self.config.restart_below:
            rows = batch_size(part) * self.parts
            drawn = _one_of_every_scale(made, part["key"])
            seen["left"] = jnp.zeros((rows, *drawn.shape[1:])).at[part["row"]].set(drawn)
        loss, metrics = made.quantizer_loss, {"vq_loss": made.quantizer_loss}
        if self.config.entropy_weight:
            metrics["entropy_loss"] = self._entropy_loss(made)
            loss += metrics["entropy_loss"]
        return (made.reconstruction, loss), jax.lax.stop_gradient((seen, metrics))

    def after(
        self, state: TrainState, metrics: Metrics, seen: PyTree
    ) -> tuple[TrainState, Metrics]:
        """The state after an update, with codes restarted, and the metrics, with usage.

        `seen` is what `observe` saw, the mean over all parts. A skipped update changes no code.
        """
        # They were summed over the parts: no means of counts, and rows that others hold are 0.
        whole = jax.tree.map(lambda mean: mean * self.parts, seen)
        counts = [jnp.round(count).astype(jnp.int32) for count in whole["counts"]]
        metrics = metrics | usage_metrics(self.tokenizer, counts)
        if not self.config.restart_below:
            return state, metrics
        state = self._restart(state, jnp.stack(counts).sum(axis=(0, 1)), whole["left"])
        return state, metrics | {"restarted": state.extra[SEEN]["restarted"]}

    def _restart(
        self,
        state: TrainState,
        counts: Int[Array, "vocab"],
        left: Float[Array, "batch scales code"],
    ) -> TrainState:
        """The state with little used codes replaced by residuals, each of which is taken once.

        Those of all scales are as likely, though the last ones have the most tokens: codes that
        only they need would crowd out the others. A new code counts as used like the mean one.
        Moments of the optimizer are those of a new parameter, zero. The average takes the new code
        too: it would mix it with one that means nothing any more.
        """
        finite = state.skipped[1] == 0
        before = state.extra[SEEN]["use"]
        latest = counts * (len(counts) / jnp.sum(counts))
        use = before + (latest - before) / self.config.restart_window
        dead = use < self.config.restart_below
        # In random order, since a few dead codes would else all go to the first images.
        key = jax.random.fold_in(self._step_key(state.step - 1), ORDER_STREAM)
        vectors = jax.random.permutation(key, rearrange(left, "batch scales c -> (batch scales) c"))
        rank = jnp.cumsum(dead) - 1
        chosen = dead & (rank < len(vectors)) & finite
        fresh = jnp.take(vectors, jnp.clip(rank, 0, len(vectors) - 1), axis=0)
        fresh = constrain_params({"quantizer": {"codebook": fresh}})["quantizer"]["codebook"]

        def placed(tree, codes):
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: (
                    jnp.where(chosen[:, None], codes, leaf)
                    if path_name(path).endswith(CODEBOOK)
                    else leaf
                ),
                tree,
            )

        kept = {
            "use": jnp.where(finite, jnp.where(chosen, 1, use), before),
            "restarted": state.extra[SEEN]["restarted"] + jnp.sum(chosen, dtype=jnp.int32),
        }
        return replace(
            state,
            params=placed(state.params, fresh),
            average=placed(state.average, fresh),
            opt_state=placed(state.opt_state, 0),
            extra=state.extra | constrain_params({"extra": {SEEN: kept}})["extra"],
        )

    def _entropy_loss(self, made: TrainingPass) -> Float[Array, ""]:
        """Undecided bits are penalised, and uneven use of both values, as means over scales."""
        config = self.config
        pairs = [bit_entropies(scale.left, config.entropy_sharpness) for scale in made.scales]
        each, together = (sum(own) / len(pairs) for own in zip(*pairs))
        return config.entropy_weight * (each - config.entropy_diversity * together)

    def _step_key(self, step: Int[Array, ""]) -> Key[Array, ""]:
        return jax.random.fold_in(make_key(self.seed), step)


def usage_metrics(tokenizer: Tokenizer, counts: list[Int[Array, "symbols values"]]) -> Metrics:
    """`usage_scale_1`, `perplexity_scale_1` and so on from the coarsest, and `usage_least`.

    Usage is that of the token space: of V codes and a batch with n tokens at a scale, the codes
    that occur divided by min(V, n), since no more could; of bits, the share of which both values
    occur. Perplexity is exp of the entropy in nats of the frequencies of codes, from 1 to V, or of
    a bit's two values, the mean over bits, from 1 to 2. Both count the tokens of all images, of
    dropped scales too, since they are what an encoder would choose.
    """
    usage, metrics = [tokenizer.token_space.usage(own) for own in counts], {}
    for scale, own in enumerate(counts):
        frequencies = own / jnp.sum(own, axis=-1, keepdims=True)
        entropy = jnp.mean(-jnp.sum(jax.scipy.special.xlogy(frequencies, frequencies), axis=-1))
        metrics[f"usage_scale_{scale + 1}"] = usage[scale]
        metrics[f"perplexity_scale_{scale + 1}"] = jnp.exp(entropy)
    return metrics | {"usage_least": jnp.min(jnp.stack(usage))}


def _one_of_every_scale(
    made: TrainingPass, keys: Key[Array, "batch"]
) -> Float[Array, "batch scales code"]:
    """What was quantized at one random position of every scale of every image."""
    drawn = []
    for index, scale in enumerate(made.scales):
        share = uniform_per_image(fold_each(fold_each(keys, POSITION_STREAM), index))
        position = jnp.floor(share * scale.left.shape[1]).astype(jnp.int32)
        drawn.append(jnp.take_along_axis(scale.left, position[:, None, None], axis=1)[:, 0])
    return jnp.stack(drawn, axis=1)
