"""The protocols of tokenizers and token spaces; all other code uses only these."""

from typing import Any, Protocol, runtime_checkable

from mvar_jax.array_types import Array, Float, Int, Key, Params, PyTree
from mvar_jax.config import TokenizerConfig
from mvar_jax.scales import ScaleSchedule

Tokens = Array
"""Tokens of one scale, or of several joined: integers `[batch, n]`, or with further axes."""


@runtime_checkable
class TokenSpace(Protocol):
    """What depends on the kind of tokens: number of logits, loss, filters and sampling.

    Hashable, so static under jit.
    """

    @property
    def logits(self) -> int:
        """Number of logits per token."""

    def count(self, tokens: Tokens) -> Int[Array, "symbols values"]:
        """How often every value occurs: of one code, or of each bit by itself, int32."""

    def usage(self, counts: Int[Array, "symbols values"]) -> Float[Array, ""]:
        """How much of what tokens could use occurs, from 0 to 1, float32, by their counts."""

    def loss(
        self,
        logits: Float[Array, "batch n logits"],
        targets: Tokens,
        smoothing: Float[Array, ""] | float = 0.0,
    ) -> Float[Array, "batch n"]:
        """Cross-entropy of every token in nats, float32, with this share of label smoothing."""

    def accuracy(
        self, logits: Float[Array, "batch n logits"], targets: Tokens
    ) -> Float[Array, "batch n"]:
        """The correctly predicted share of every token, from 0 to 1, float32."""

    def log_probabilities(
        self, logits: Float[Array, "batch n logits"]
    ) -> Float[Array, "batch n logits"]:
        """The logarithms of the probabilities of all codes, or of both values of a bit, float32."""

    def noise(self, keys: Key[Array, "batch"], scale: int, tokens: int) -> Array:
        """The noise for drawing the `tokens` tokens of one scale, from the images' keys."""

    def filter(
        self,
        logits: Float[Array, "batch n logits"],
        top_k: Int[Array, ""] | int,
        top_p: Float[Array, ""] | float,
        spared: Tokens | None = None,
    ) -> Float[Array, "batch n logits"]:
        """The logits, with -inf for those that top-k and then top-p remove.

        They never remove the tokens `spared`.
        """

    def posterior(
        self, logits: Float[Array, "batch n logits"], noise: Array, tokens: Tokens
    ) -> Array:
        """Noise given that `sample` draws these tokens with it, from noise without that.

        With any filter that spares the tokens, they are drawn too. Logits must be finite.
        """

    def sample(self, logits: Float[Array, "batch n logits"], noise: Array) -> Tokens:
        """Draws every token from its logits."""

    def mixture(
        self, logits: Float[Array, "batch n logits"], noise: Array, progress: float
    ) -> Array:
        """The input of the tokenizer's `mix`, for soft codes instead of drawn tokens.

        `progress` goes from 0 at the first scale to 1 at the last.
        """


@runtime_checkable
class Tokenizer(Protocol):
    """Images to tokens of every scale, and codes back to images.

    A Flax module: call the methods below on a bound module, or by `apply` with `method=`. Images
    are float32 NHWC in [-1, 1]. Methods that depend on the scales take the schedule, static under
    jit; the default is the tokenizer's own. `keys`, one per image, are for tokenizers that draw
    random numbers in training; without keys nothing is random.
    """

    @property
    def config(self) -> TokenizerConfig:
        """The settings."""

    @property
    def schedule(self) -> ScaleSchedule:
        """The scales of the config."""

    @property
    def token_space(self) -> TokenSpace:
        """The space of its tokens."""

    def encode(
        self, images: Float[Array, "batch _ _ 3"], schedule: ScaleSchedule | None = None
    ) -> Float[Array, "batch h w code"]:
        """The features of images. Raises ValueError for images of another size than the scales'."""

    def quantize(
        self, features: Float[Array, "batch h w code"], schedule: ScaleSchedule | None = None
    ) -> tuple[Tokens, ...]:
        """The tokens of every scale, coarse to fine, in row-major order."""

    def training_pair(
        self,
        features: Float[Array, "batch h w code"],
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch _ word"], Tokens]:
        """Teacher-forcing inputs of all scales but the first, and target tokens of all, joined.

        Keys are for errors that the trunk learns to correct, where the tokenizer has them.
        """

    def inputs_from_tokens(
        self,
        tokens: Tokens,
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch _ word"]:
        """The inputs of `training_pair`, from its target tokens instead of features.

        Raises ValueError for keys where errors to correct would need the features.
        """

    def embed(self, tokens: Tokens) -> Float[Array, "batch n word"]:
        """The codes of tokens."""

    def mix(self, mixture: Array) -> Float[Array, "batch n word"]:
        """The soft codes of the token space's `mixture`."""

    def start(
        self, batch: int, schedule: ScaleSchedule | None = None
    ) -> Float[Array, "batch h w code"]:
        """The running reconstruction before the first scale."""

    def accumulate(
        self,
        running: Float[Array, "batch h w code"],
        codes: Float[Array, "batch n word"],
        scale: int,
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, "batch _ word"] | None]:
        """Adds the codes of one scale; returns the sum and the next scale's input, if any."""

    def next_input(
        self,
        running: Float[Array, "batch h w code"],
        scale: int,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch _ word"] | None:
        """The input after this scale, by itself, of a sum that is given."""

    def decode(self, running: Float[Array, "batch h w code"]) -> Float[Array, "batch _ _ 3"]:
        """The images of summed codes, clipped to [-1, 1]."""

    def init(self, key: Key[Array, ""], images: Float[Array, "batch _ _ 3"], /) -> PyTree:
        """The initial parameters, under "params"."""

    def apply(
        self, variables: dict[str, Params], *arguments: Any, method: str | None = None
    ) -> Any:
        """A method, by name, with parameters; without a name `reconstruct`."""

    def bind(self, variables: dict[str, Params]) -> "Tokenizer":
        """The tokenizer with parameters."""
