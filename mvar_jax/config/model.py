"""The settings of a trunk."""

import dataclasses
from dataclasses import dataclass, field

from mvar_jax.checks import check, check_range

ATTENTION_REACHES = ("scale", "history")
BRANCHES = ("attention", "ssm", "ffn")
"""The modulated residual branches that a block may have. Stochastic depth draws by the index in
this tuple: new ones are appended, so that they change no run."""


@dataclass(frozen=True)
class BlockKind:
    """The mixers of a block: attention inside a scale or over the history, and perhaps more.

    `ssm` adds a state-space layer, `text` cross-attention to a text.
    """

    attention_reach: str
    ssm: bool = False
    text: bool = False

    @classmethod
    def parse(cls, name: str) -> "BlockKind":
        """From a reach of attention, with "+ssm" and "+text" behind it if wanted, in this order.

        "history" is VAR, "scale+ssm" M-VAR, "history+text" Infinity.
        """
        reach, *mixers = name.split("+")
        check(
            reach in ATTENTION_REACHES and mixers in ([], ["ssm"], ["text"], ["ssm", "text"]),
            f"model.pattern: got {name!r}, expected 'scale+ssm' (M-VAR), 'history' (VAR), 'scale' "
            "or 'history+ssm', with +text behind it for cross-attention to a text (Infinity).",
        )
        return cls(reach, "ssm" in mixers, "text" in mixers)

    @property
    def branches(self) -> tuple[str, ...]:
        """The modulated residual branches in order; three vectors modulate each."""
        return ("attention", "ssm", "ffn") if self.ssm else ("attention", "ffn")

    @property
    def groups(self) -> int:
        """Number of vectors that modulate the block."""
        return 3 * len(self.branches)


@dataclass(frozen=True)
class SSMConfig:
    """The Mamba-2 layer (arXiv 2405.21060): sizes as in `Mamba2(d_state, d_conv, expand, headdim)`.

    `chunk` is the number of tokens that are mixed by one matmul; it changes speed and memory, not
    the result. Kernels have chunks of their own, and CPUs at most 64.
    """

    state_size: int = 64
    conv_size: int = 4
    expand: int = 2
    head_dim: int = 64
    chunk: int = 256

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            check(value >= 1, f"model.ssm.{item.name}: got {value}, expected at least 1.")
        check(
            self.conv_size >= 2, f"model.ssm.conv_size: got {self.conv_size}, expected at least 2."
        )


@dataclass(frozen=True)
class InitConfig:
    """Factors of the official initialisation (methods of VAR's `init_weights`).

    Linear layers and embeddings are initialised normal with std sqrt(1 / (3 width)). `head` scales
    the weights of the logits, `modulation` the adaLN projections, and `gate` the first two gates
    instead of `modulation` (a third gate, M-VAR's feed-forward, keeps `modulation`, as released).
    """

    head: float = 0.02
    modulation: float = 0.5
    gate: float = 1e-5


@dataclass(frozen=True)
class TextConfig:
    """The texts that a trunk is conditioned on: features of a frozen text encoder.

    `channels` are those of a feature, `max_length` is the most tokens that a text may have.
    """

    channels: int = 2048
    max_length: int = 512

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            check(value >= 1, f"model.text.{item.name}: got {value}, expected at least 1.")


CONDITIONS = ("class", "text")
POSITIONS = ("learned", "rotary")
KERNELS = ("auto", "xla", "pallas_tpu", "pallas_gpu")
RENAMED_KERNELS = {"none": "xla", "pallas": "pallas_tpu"}  # as saved configs have them
REMATS = ("none", "products", "full")


@dataclass(frozen=True)
class ModelConfig:
    """The trunk: `depth` blocks of the kinds in `pattern`, repeated.

    condition: what an image is of: a "class" or a "text".
    num_classes: 0 stands for the number of classes of the dataset, which training fills in.
    text: the sizes of texts, for the condition "text".
    pattern: ("scale+ssm",) is M-VAR, ("history",) is VAR, ("history+text",) is Infinity,
        ("scale",) the control without mixing over scales; longer patterns mix kinds layer by layer.
    positions: "learned", one vector for every token of the tokenizer's scales, or "rotary", angles
        by which queries and keys are rotated, for any scales (needs `qk_norm`).
    levels: rows of the embedding of the scale's index; 0 stands for as many as there are scales.
    drop_path_rate: the rate in the last block, rising linearly from 0 in the first.
    class_drop_rate: the share of classes or texts that training replaces by the unconditional one.
    qk_norm: cosine attention with a learned scale per head (`attn_l2_norm` in the official code);
        without it the softmax scale is 0.25 / sqrt(head_dim).
    kernels: the implementation of attention, and of the SSM without a state, as in training. "xla"
        is plain JAX, "pallas_tpu" are fused kernels for TPUs and "pallas_gpu" for NVIDIA's GPUs
        (interpreted, and slow, on other platforms), "auto" uses the kernels where they are compiled
        and accept the sizes; so do ops without a kernel of that name, as attention over a cache or
        a text on TPUs. Results are the same.
    remat: what the backward pass recomputes to save memory: "none", the fastest for small models,
        "products" (everything except matmuls with weights and, where no kernel attends,
        attention) or "full" (everything inside a repetition of the pattern).
    scan: whether layers that are alike run under one `jax.lax.scan`, or unrolled.
    """

    condition: str = "class"
    num_classes: int = 1000
    text: TextConfig = field(default_factory=TextConfig)
    depth: int = 16
    width: int = 1024
    heads: int = 16
    pattern: tuple[str, ...] = ("scale+ssm",)
    positions: str = "learned"
    levels: int = 0
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    shared_modulation: bool = False
    drop_path_rate: float = 0.0
    class_drop_rate: float = 0.1
    norm_epsilon: float = 1e-6
    ssm: SSMConfig = field(default_factory=SSMConfig)
    init: InitConfig = field(default_factory=InitConfig)
    compute_dtype: str = "float32"
    kernels: str = "auto"
    remat: str = "products"
    scan: bool = True

    def __post_init__(self):
        kernels = RENAMED_KERNELS.get(self.kernels, self.kernels)
        object.__setattr__(self, "kernels", kernels)  # the dataclass is frozen
        check(
            self.num_classes >= 0,
            f"model.num_classes: got {self.num_classes}, expected 0 (the dataset's) or more.",
        )
        for name in ("depth", "width", "heads"):
            check(
                getattr(self, name) >= 1,
                f"model.{name}: got {getattr(self, name)}, expected at least 1.",
            )
        check(
            self.width % self.heads == 0,
            f"model: width {self.width} is not divisible by heads {self.heads}; change one.",
        )
        check(
            len(self.pattern) >= 1,
            "model.pattern: got nothing, expected at least one kind of block.",
        )
        check(
            self.depth % len(self.pattern) == 0,
            f"model: depth {self.depth} is not a multiple of the pattern's length "
            f"{len(self.pattern)}.",
        )
        if any(kind.ssm for kind in self.kinds):
            check(
                self.ssm_width % self.ssm.head_dim == 0,
                f"model: the SSM's inner width {self.ssm_width} is not divisible by "
                f"ssm.head_dim {self.ssm.head_dim}; change one of them.",
            )
        if self.shared_modulation:
            check(
                len({kind.groups for kind in self.kinds}) == 1,
                "model: shared_modulation needs blocks with equally many branches; "
                "the pattern mixes them.",
            )
        for name in ("drop_path_rate", "class_drop_rate"):
            check_range(f"model.{name}", getattr(self, name), 0.0, 0.999)
        check(self.mlp_ratio > 0, f"model.mlp_ratio: got {self.mlp_ratio}, expected more than 0.")
        check_range("model.norm_epsilon", self.norm_epsilon, 0.0, 1.0)
        choices = {
            "condition": CONDITIONS,
            "positions": POSITIONS,
            "kernels": KERNELS,
            "remat": REMATS,
        }
        for name, known in choices.items():
            check(
                getattr(self, name) in known,
                f"model.{name}: got {getattr(self, name)!r}, expected one of {known}.",
            )
        check(
            self.condition == "text" or not any(kind.text for kind in self.kinds),
            f"model.pattern: got {', '.join(self.pattern)} with the condition {self.condition!r}; "
            "cross-attention needs model.condition 'text'.",
        )
        check(
            self.condition == "class" or self.width % self.pooling_heads == 0,
            f"model: width {self.width} is not divisible by {self.pooling_heads}, the heads that "
            f"pool a text of {self.text.channels} channels; change one.",
        )
        check(
            self.positions == "learned" or (self.qk_norm and self.head_dim % 4 == 0),
            f"model.positions: rotary positions need qk_norm and heads of a multiple of 4 "
            f"channels, got qk_norm {self.qk_norm} and {self.head_dim} channels.",
        )
        check(self.levels >= 0, f"model.levels: got {self.levels}, expected 0 or more.")
        dtypes = ("float32", "bfloat16")
        check(
            self.compute_dtype in dtypes,
            f"model.compute_dtype: got {self.compute_dtype!r}, expected one of {dtypes}.",
        )

    @property
    def kinds(self) -> tuple[BlockKind, ...]:
        """The kinds of block in one repetition of the pattern."""
        return tuple(BlockKind.parse(name) for name in self.pattern)

    @property
    def repeats(self) -> int:
        """How often the pattern is repeated."""
        return self.depth // len(self.pattern)

    @property
    def history_positions(self) -> tuple[int, ...]:
        """The indices in the pattern of blocks that attend over the history, ascending."""
        kinds = enumerate(self.kinds)
        return tuple(i for i, kind in kinds if kind.attention_reach == "history")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def pooling_heads(self) -> int:
        """Heads of the attention that pools a text into one vector."""
        per_head = 128 if self.width <= 4096 else 64  # channels of the text
        return max(self.text.channels // per_head, 1)

    @property
    def hidden_width(self) -> int:
        """Channels between the two layers of the feed-forward."""
        return round(self.mlp_ratio * self.width)

    @property
    def ssm_width(self) -> int:
        """Channels inside the SSM, of all its heads."""
        return self.ssm.expand * self.width

    @property
    def ssm_heads(self) -> int:
        """Heads of the SSM."""
        return self.ssm_width // self.ssm.head_dim

    @property
    def softmax_scale(self) -> float:
        """Factor of the logits before the softmax, besides the learned one of `qk_norm`."""
        return 1.0 if self.qk_norm else 0.25 * self.head_dim**-0.5
