"""The settings of a tokenizer's losses: what is refused and how."""

import pytest

from mvar_jax.config import Config, TokenizerConfig, TokenizerLossConfig
from mvar_jax.config.tree import from_config_dict, from_json, to_json

SMALL = TokenizerConfig(image_size=(32, 48), scales=((1, 1), (2, 3)))


def test_by_default_the_squared_error_alone():
    loss = Config().tokenizer_loss
    assert (loss.l2, loss.l1, loss.lpips, loss.adversarial, loss.lecam) == (1, 0, 0, 0, 0)
    earlier = to_json(Config()).replace('"tokenizer_loss"', '"x"')  # as a file had no such group
    assert '"x"' in earlier
    with pytest.raises(ValueError, match="unknown key 'x'"):
        from_json(earlier)
    assert from_json('{"seed": 3}').tokenizer_loss == loss


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"l1": -0.1}, r"tokenizer_loss\.l1: got -0\.1, expected a number from 0"),
        ({"lecam": float("nan")}, r"tokenizer_loss\.lecam: got nan"),
        ({"l2": 0.0}, "got l1, l2 and lpips of 0, expected one above 0"),
        ({"lpips_network": "vgg19"}, r"lpips_network: got 'vgg19', expected one of \('vgg', 'alex"),
        ({"lpips_start": -0.1}, r"lpips_start: got -0\.1, expected a number from 0"),
        ({"lpips_every": 0}, r"lpips_every: got 0, expected at least 1"),
        ({"lpips": 0.5, "lpips_every": 7}, r"got 7, expected a divisor of the \d+ images"),
        ({"lpips": 0.5, "lpips_start": 1.0}, r"lpips_start: got 1\.0, the end of the run"),
        (
            {"lpips": 0.5, "lpips_start": 0.5, "l2": 0.0},
            "got 0.5 with l1 and l2 of 0, expected one",
        ),
        ({"adversarial": 0.5, "adversarial_start": 1.0}, r"got 1\.0 .* end beyond the run"),
        (
            {"adversarial": 0.5, "adversarial_start": 0.9, "adversarial_ramp": 0.2},
            r"adversarial_start: got 0\.9 with an adversarial_ramp of 0\.2, which end beyond",
        ),
        ({"adversarial_start": 1.1}, r"adversarial_start: got 1\.1, expected a number from 0"),
        ({"adaptive_clamp": (2.0, 1.0)}, r"adaptive_clamp: got \(2\.0, 1\.0\), expected the least"),
        ({"discriminator_channels": 0}, "discriminator_channels: got 0"),
        ({"discriminator_layers": 0}, "discriminator_layers: got 0"),
    ],
)
def test_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        from_config_dict({"tokenizer_loss": settings})


def test_a_start_is_not_looked_at_without_an_adversary():
    assert TokenizerLossConfig(adversarial_start=1.0).adversarial == 0


def test_images_must_have_a_patch():
    four = {"discriminator_layers": 4}
    assert Config(tokenizer=SMALL, tokenizer_loss=TokenizerLossConfig(**four))
    assert Config(tokenizer=SMALL, tokenizer_loss=TokenizerLossConfig(adversarial=1.0))
    with pytest.raises(ValueError, match=r"discriminator_layers: got 4, for .* 48 x 48 pixels, .*"):
        Config(tokenizer=SMALL, tokenizer_loss=TokenizerLossConfig(adversarial=1.0, **four))
