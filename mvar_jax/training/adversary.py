"""The discriminator's part in a tokenizer's training."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from mvar_jax.array_types import Array, Bool, Float, Int, Key, Params, PyTree
from mvar_jax.checks import check
from mvar_jax.config import Config, TokenizerLossConfig
from mvar_jax.mesh.axes import constrain
from mvar_jax.models.parameters import constrain_params
from mvar_jax.networks.discriminator import Discriminator
from mvar_jax.ops.diff_augment import diff_augment
from mvar_jax.ops.noise import fold_each, make_key
from mvar_jax.training.adversarial_losses import generator_loss, hinge_loss, lecam_loss
from mvar_jax.training.losses import Metrics
from mvar_jax.training.optimizer import make_optimizer

KEPT = "adversary"  # its name in the `extra` of a training state
REAL_STREAM, FAKE_STREAM = 4, 5  # folded into an image's key before drawing
START_STREAM = 6  # folded into the seed's key, of the tokenizer's own start
LECAM_DECAY = 0.999  # of the moving averages of logits


@dataclass(frozen=True)
class Adversary:
    """A discriminator and how it trains along; its numbers are in the training state.

    These are `params`, `opt_state` and `numbers`, the moving averages of the logits of `real` and
    `fake` patches. It begins with step `first`, counted from 0, and is not run before; the
    generator's loss has its full weight `ramp` steps later.
    """

    config: TokenizerLossConfig
    discriminator: Discriminator
    optimizer: optax.GradientTransformation
    first: int
    ramp: int
    seed: int

    @classmethod
    def of(cls, config: Config, total_steps: int) -> "Adversary | None":
        """That of a run of so many steps; None where the config has none.

        Raises ValueError for a start that rounds to the end of the run.
        """
        own = config.tokenizer_loss
        if not own.adversarial:
            return None
        first = round(own.adversarial_start * total_steps)
        check(
            first < total_steps,
            f"tokenizer_loss.adversarial_start: got {own.adversarial_start}, which is step {first} "
            f"of {total_steps}, expected one before the end; start earlier, or train for longer.",
        )
        return cls(
            own,
            Discriminator(own.discriminator_channels, own.discriminator_layers),
            make_optimizer(config.discriminator_optimizer, total_steps - first, config.batch_size),
            first,
            round(own.adversarial_ramp * total_steps),
            config.seed,
        )

    def start(self, image_size: tuple[int, int]) -> dict[str, PyTree]:
        """Its part of the state before the first update, for images of (height, width) pixels."""
        key = jax.random.fold_in(make_key(self.seed), START_STREAM)
        images = jnp.zeros((1, *image_size, 3))
        params = {"discriminator": self.discriminator.init(key, images)["params"]}
        numbers = {name: jnp.zeros([], jnp.float32) for name in ("real", "fake")}
        return {"params": params, "opt_state": self.optimizer.init(params), "numbers": numbers}

    def keys(self, step: Int[Array, ""], batch: int) -> Key[Array, "batch"]:
        """A key for every row of a batch, for what is drawn at a step."""
        key = jax.random.fold_in(make_key(self.seed), step)
        return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))

    def weight(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The weight of the generator's loss at a step, without the adaptive quotient."""
        risen = (step - self.first + 1) / (self.ramp + 1)
        return self.config.adversarial * jnp.minimum(risen, 1.0)

    def judge(
        self,
        own: dict[str, PyTree],
        images: Float[Array, "batch height width 3"],
        reconstruction: Float[Array, "batch height width 3"],
        keys: Key[Array, "batch"],
    ) -> tuple[Float[Array, "batch height width 3"], Params, Metrics]:
        """The generator's gradient, the discriminator's, and metrics.

        own: its part of the state
        images, reconstruction: in [-1, 1], the second perhaps beyond
        keys: one per image

        The gradients are those of the generator's loss with respect to reconstructions, and of the
        discriminator's with respect to its parameters. Metrics are `generator_loss`,
        `discriminator_loss`, the mean `real_logits` and `fake_logits` of patches, and `lecam_loss`.
        """
        params = own["params"]
        # Both losses see reconstructions alike, so that XLA computes their logits once.
        real_view, fake_view = (self._view(keys, stream) for stream in (REAL_STREAM, FAKE_STREAM))

        def fooled(reconstruction):
            return generator_loss(self._logits(params, fake_view(reconstruction)))

        def caught(params):
            real = self._logits(params, real_view(images))
            fake = self._logits(params, fake_view(reconstruction))
            return self._loss(real, fake, own["numbers"])

        loss, slope = jax.value_and_grad(fooled)(reconstruction)
        gradients, metrics = jax.grad(caught, has_aux=True)(params)
        slope, gradients = constrain(slope, "images"), constrain_params(gradients)
        return slope, gradients, {"generator_loss": loss, **metrics}

    def updated(
        self, own: dict[str, PyTree], gradients: Params, metrics: Metrics
    ) -> tuple[dict[str, PyTree], Bool[Array, ""]]:
        """Its part of the state after an update, and whether its gradients are finite.

        Gradients and metrics are those of `judge`, of the whole batch.
        """
        updates, opt_state = self.optimizer.update(gradients, own["opt_state"], own["params"])
        latest = {name: metrics[f"{name}_logits"] for name in own["numbers"]}
        finite = jnp.isfinite(optax.global_norm(gradients) + metrics["discriminator_loss"])
        return {
            "params": optax.apply_updates(own["params"], updates),
            "opt_state": opt_state,
            "numbers": optax.incremental_update(latest, own["numbers"], 1 - LECAM_DECAY),
        }, finite

    def _view(self, keys: Array, stream: int) -> Callable[[Array], Array]:
        """What the discriminator sees of images."""
        if not self.config.diffaug:
            return lambda images: images
        own = fold_each(keys, stream)
        return lambda images: diff_augment(images, own)

    def _logits(self, params: Params, images: Array) -> Array:
        own = {"params": params["discriminator"]}
        return jnp.asarray(self.discriminator.apply(own, images))

    def _loss(self, real: Array, fake: Array, averages: Metrics) -> tuple[Array, Metrics]:
        """The discriminator's loss, and metrics."""
        loss = hinge_loss(real, fake)
        metrics = {
            "discriminator_loss": loss,
            "real_logits": jnp.mean(real),
            "fake_logits": jnp.mean(fake),
        }
        if self.config.lecam:
            metrics["lecam_loss"] = lecam_loss(
                real, fake, real_average=averages["real"], fake_average=averages["fake"]
            )
            loss += self.config.lecam * metrics["lecam_loss"]
        return loss, metrics
