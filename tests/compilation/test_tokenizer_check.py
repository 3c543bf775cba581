"""What the parts of a tokenizer's training cost, by the compiler that is here."""

from dataclasses import replace

import jax

from mvar_jax.compilation.program import Program
from mvar_jax.compilation.tokenizer_check import TokenizerPrograms, training_parts
from mvar_jax.config import MeshConfig
from mvar_jax.mesh.sharding import make_mesh
from tests.training.tiny import CONFIG
from tests.training.tiny_losses import ALL

TINY = replace(
    CONFIG,
    tokenizer_loss=replace(ALL, lpips=0.0, adversarial_start=0.0),
    tokenizer_training=replace(CONFIG.training, accumulate=4),
    batch_size=32,
)


def test_parts_and_optimizers_are_the_whole():
    """A batch in four parts costs what it costs at once, but for what is done once a part."""
    with jax.set_mesh(make_mesh(MeshConfig())):
        gradients, optimizers = training_parts(TINY, {}, advance=lambda: None)
        at_once = replace(TINY, tokenizer_training=replace(TINY.tokenizer_training, accumulate=1))
        whole = Program(*TokenizerPrograms(at_once).step).cost
    assert (gradients.times, optimizers.times) == (4, 1)
    for cost in (gradients.cost, optimizers.cost):
        assert cost.flops > 0 and cost.bytes_moved > 0
    total = 4 * gradients.cost.flops + optimizers.cost.flops
    assert 0.95 < whole.flops / total < 1.05
    assert optimizers.cost.flops < 0.1 * total
