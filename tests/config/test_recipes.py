"""Every file in configs/ builds, and the ImageNet recipes are the published ones."""

import dataclasses
import runpy
from pathlib import Path

import jax
import pytest

from mvar_jax.config import SamplingConfig
from mvar_jax.config.tree import from_config_dict, from_json, to_json
from mvar_jax.scales import VAR_256, VAR_512
from mvar_jax.training.weights import tokenizer_shapes, trunk_shapes

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = {
    "infinity": ("125m", "361m", "940m", "2b", "2.2b", "4.7b", "8b", "8.8b", "2b@0.25M"),
    "infinity_shapes": ("tiny", "tiny_mvar", "runlocal"),
    "digits": ("", "runlocal"),
    "folder": ("var64", "mvar64", "var256", "mvar256", "runlocal"),
    "shapes": ("var64", "mvar64", "var256", "mvar256", "runlocal"),
    "tokenizer": ("vq_imagenet256", "bsq_imagenet256", "shapes64", "photos64", "photos128"),
    "mvar_imagenet256": ("d12", "d16", "d20", "d24", "d30", "d32"),
    "mvar_imagenet512": ("d24", "d36"),
    "var_imagenet256": ("d16", "d20", "d24", "d30"),
    "var_imagenet512": ("d36",),
}


def get_config(file, preset):
    return runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"](preset)


def test_every_config_file_is_listed():
    assert {file.stem for file in CONFIGS.glob("*.py")} == set(PRESETS)


@pytest.mark.parametrize(
    ("file", "preset"), [(file, preset) for file in PRESETS for preset in PRESETS[file]]
)
def test_every_preset_builds(file, preset):
    config = from_config_dict(get_config(file, preset))
    assert from_json(to_json(config)) == config
    assert config.tokenizer.schedule.last == tuple(
        side // config.tokenizer.stride for side in config.tokenizer.image_size
    )


@pytest.mark.parametrize("file", PRESETS)
def test_unknown_presets_are_refused(file):
    for preset in ("d17", "runlocally"):
        with pytest.raises(
            ValueError, match=f"got '{preset}', expected .*{PRESETS[file][-1]}"
        ) as e:
            get_config(file, preset)
        assert f"as in --config=configs/{file}.py:" in str(e.value)


@pytest.mark.parametrize(
    ("file", "preset"),
    [(file, preset) for file in ("digits", "folder", "shapes") for preset in PRESETS[file]],
)
def test_the_average_that_is_sampled_has_left_its_random_start(file, preset):
    training = from_config_dict(get_config(file, preset)).training
    assert 0 < training.ema_decay**training.steps < 0.02


# Parameters in millions: trunk and tokenizer.
SIZES = {
    "var64": ((2, 3.5), (2, 3)),
    "mvar64": ((2.5, 5), (2, 3)),
    "var256": ((50, 80), (15, 25)),
    "mvar256": ((70, 120), (15, 25)),
}


@pytest.mark.parametrize("preset", SIZES)
def test_shapes_presets_have_the_intended_sizes(preset):
    config = from_config_dict(get_config("shapes", preset))
    trunk = trunk_shapes(config)
    tokenizer = tokenizer_shapes(config)
    for tree, (least, most) in zip((trunk, tokenizer), SIZES[preset]):
        assert least <= sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6 <= most
    assert config.model.pattern == (("scale+ssm",) if preset[0] == "m" else ("history",))
    assert config.model.qk_norm and config.model.depth * config.model.heads >= 32
    assert config.model.head_dim == 32
    assert len(config.tokenizer.scales) == (7 if preset.endswith("64") else 10)


# The published training commands: batch, epochs, learning rate per 256 images, start of the
# gates, last share of the learning rate, last weight decay.
PUBLISHED = {
    12: (768, 200, 1e-4, 1e-3, 0.1, 0.05),
    16: (768, 200, 1e-4, 1e-3, 0.1, 0.05),
    20: (768, 250, 1e-4, 1e-3, 0.1, 0.05),
    24: (768, 350, 8e-5, 1e-4, 0.01, 0.05),
    30: (1024, 350, 8e-5, 1e-5, 0.01, 0.08),
    36: (768, 350, 8e-5, 5e-6, 0.01, 0.08),
}


@pytest.mark.parametrize("file", [file for file in PRESETS if "imagenet" in file])
def test_recipes_are_the_published_ones(file):
    for depth, (batch, epochs, rate, gate, last_rate, last_decay) in PUBLISHED.items():
        preset = f"d{depth}"
        if preset not in PRESETS[file]:
            continue
        config = from_config_dict(get_config(file, preset))
        model, optimizer = config.model, config.optimizer
        assert (config.batch_size, config.training.epochs) == (batch, epochs)
        assert (optimizer.learning_rate, optimizer.final_fraction) == (rate, last_rate)
        assert (optimizer.weight_decay, optimizer.final_weight_decay) == (0.05, last_decay)
        assert (optimizer.schedule, optimizer.warmup_fraction) == ("lin0", 0.02)
        assert (optimizer.beta1, optimizer.beta2, optimizer.clip_norm) == (0.9, 0.95, 2.0)
        assert dataclasses.astuple(model.init) == (0.02, 0.5, gate)
        assert (model.depth, model.heads, model.width) == (depth, depth, 64 * depth)
        assert model.drop_path_rate == pytest.approx(0.1 * depth / 24)
        assert model.class_drop_rate == 0.1
        without_norm = file.startswith("mvar") and depth in (16, 20)
        assert model.qk_norm == (not without_norm)
        assert model.pattern == (("scale+ssm",) if file.startswith("mvar") else ("history",))
        large = file.endswith("512")
        assert (model.shared_modulation, config.tokenizer.schedule) == (
            (True, VAR_512) if large else (False, VAR_256)
        )


def test_mvar_at_512_shares_one_modulation_of_nine_vectors():
    """Its parameters are those published for 256 pixels, but for modulation and positions."""
    trunk = trunk_shapes(from_config_dict(get_config("mvar_imagenet512", "d24")))
    depth, width, published = 24, 24 * 64, 1550067136
    projection = 9 * width * (width + 1)
    more = projection + depth * 9 * width + (VAR_512.total - VAR_256.total) * width
    count = sum(leaf.size for leaf in jax.tree.leaves(trunk))
    assert count == published - depth * projection + more
    assert trunk["shared_modulation"]["kernel"].shape == (width, 9, width)


def test_sampling_starts_from_the_published_settings():
    sampling = from_config_dict(get_config("mvar_imagenet256", "d16")).sampling
    assert sampling == SamplingConfig(1.5, 900, 0.96, 1.0, smooth=False)


@pytest.mark.parametrize(
    ("file", "preset"),
    [
        (file, preset)
        for file in PRESETS
        if "imagenet" in file or file == "infinity"
        for preset in PRESETS[file]
    ],
)
def test_matrices_are_cut_into_whole_tiles_or_many_pieces(file, preset):
    config = from_config_dict(get_config(file, preset))
    rows = config.model.width / config.mesh.max_fsdp
    assert rows == int(rows) and 16 <= config.mesh.max_fsdp <= 128
    assert rows % 8 == 0 or config.model.width in (2080, 3360)
