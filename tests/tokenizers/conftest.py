import pytest

from mvar_jax.config import TokenizerConfig
from tests.tokenizers.weights import bitwise_config


@pytest.fixture
def tiny_config():
    """A tokenizer of wide images: 16x24 pixels, maps of 1x1, 2x2 and 2x3 tokens."""
    return TokenizerConfig(
        image_size=(16, 24),
        scales=((1, 1), (2, 2), (2, 3)),
        vocabulary=16,
        code_channels=4,
        base_channels=8,
        channel_multipliers=(1, 2),
        blocks_per_level=1,
        stem_stride=4,
        norm_groups=4,
    )


@pytest.fixture(params=[1, 2], ids=["patch 1", "patch 2"])
def bsq_config(request):
    """A bitwise tokenizer of the same images and maps, with and without folding."""
    return bitwise_config(request.param)
