"""Configurations: there and back, what is refused and how, and every file in configs/."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from mvar_jax.config import (
    BlockKind,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    SSMConfig,
    TokenizerConfig,
    TrainingConfig,
    from_config_dict,
    from_json,
    to_config_dict,
    to_json,
)

CONFIGS = Path(__file__).parents[1] / "configs"
PRESETS = {
    "digits": ("", "runlocal"),
    "mvar_imagenet256": ("d12", "d16", "d20", "d24", "d30", "d32"),
    "var_imagenet256": ("d16", "d20", "d24", "d30"),
}
DIGITS = runpy.run_path(str(CONFIGS / "digits.py"))["get_config"]()


def get_config(file, preset):
    return runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"](preset)


@pytest.mark.parametrize("config", [Config(), from_config_dict(DIGITS)], ids=["default", "digits"])
def test_there_and_back(config):
    assert from_json(to_json(config)) == config
    values = to_config_dict(config)
    assert isinstance(values, ConfigDict) and isinstance(values.model.ssm, ConfigDict)
    assert from_config_dict(values) == config
    assert from_config_dict(values.to_dict()) == config
    assert hash(from_json(to_json(config))) == hash(config)  # static under jit


def test_whole_numbers_are_taken_for_fractions():
    config = from_config_dict({"training": {"epochs": 3}})
    assert config.training.epochs == 3.0 and isinstance(config.training.epochs, float)


def test_what_is_left_out_keeps_its_default():
    assert from_config_dict({}) == Config()
    assert from_config_dict({"model": {"depth": 2}}).model == ModelConfig(depth=2)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"modell": {}}, r"unknown key 'modell'; Config has .*model.*"),
        ({"model": {"depht": 2}}, r"unknown key 'depht'; ModelConfig has .*depth.*"),
        ({"seed": "0"}, r"config.seed: got '0', expected a value of type int"),
        ({"seed": 1.0}, r"config.seed: got 1.0, expected a value of type int"),
        ({"seed": True}, r"config.seed: got True, expected a value of type int"),
        ({"model": {"remat": 1}}, r"config.remat: got 1, expected a value of type bool"),
        ({"training": {"epochs": True}}, r"config.epochs: got True, expected .* type float"),
        ({"data": {"name": 3}}, r"config.name: got 3, expected a value of type str"),
        ({"model": 3}, r"config.model: got 3, expected a group of settings"),
        ({"model": {"pattern": "scale"}}, r"config.pattern: got 'scale', expected a list"),
        ({"tokenizer": {"image_size": [256]}}, r"config.image_size: got \[256\], expected 2 values"),
        ({"tokenizer": {"scales": [[1, 2, 3]]}}, r"scales: got \[1, 2, 3\], expected 2 values"),
        ({"tokenizer": {"scales": [[1, "2"]]}}, r"config.scales: got '2', expected .* type int"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(values, sentence):
    for given in (values, ConfigDict(values)):
        with pytest.raises(ValueError, match=sentence):
            from_config_dict(given)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "not valid JSON"), ("[1]", "not an object"), ('{"a": 1}', "unknown key 'a'")],
)
def test_text_that_is_no_config_is_refused(text, sentence):
    with pytest.raises(ValueError, match=f"config: .*{sentence}"):
        from_json(text)


REFUSED = [
    (DataConfig, "augmentation", "flip", "one of ('crop', 'shift', 'none')"),
    (DataConfig, "resize_ratio", 0.9, "a number from 1.0 to 4.0"),
    (DataConfig, "max_shift", -1, "a number from 0 to 64"),
    (DataConfig, "num_threads", 513, "a number from 0 to 512"),
    (TokenizerConfig, "vocabulary", 1, "a number from 2 to 16777216"),
    (TokenizerConfig, "code_channels", 0, "at least 1"),
    (TokenizerConfig, "base_channels", 0, "at least 1"),
    (TokenizerConfig, "blocks_per_level", 0, "at least 1"),
    (TokenizerConfig, "stem_stride", 0, "at least 1"),
    (TokenizerConfig, "norm_groups", 0, "at least 1"),
    (TokenizerConfig, "shared_convolutions", -1, "0 (one a scale) or more"),
    (SSMConfig, "state_size", 0, "at least 1"),
    (SSMConfig, "conv_size", 1, "at least 2"),
    (SSMConfig, "expand", 0, "at least 1"),
    (SSMConfig, "head_dim", -1, "at least 1"),
    (SSMConfig, "chunk", 0, "at least 1"),
    (ModelConfig, "num_classes", 0, "at least 1"),
    (ModelConfig, "depth", 0, "at least 1"),
    (ModelConfig, "width", 0, "at least 1"),
    (ModelConfig, "heads", 0, "at least 1"),
    (ModelConfig, "drop_path_rate", 1.0, "a number from 0.0 to 0.999"),
    (ModelConfig, "class_drop_rate", -0.1, "a number from 0.0 to 0.999"),
    (ModelConfig, "compute_dtype", "int8", "one of ('float32', 'bfloat16'"),
    (OptimizerConfig, "learning_rate", 0.0, "more than 0"),
    (OptimizerConfig, "schedule", "exp", "one of ('lin0', 'lin', 'lin00', 'cos', 'constant')"),
    (OptimizerConfig, "warmup_fraction", 1.1, "a number from 0.0 to 1.0"),
    (OptimizerConfig, "warmup_start", -0.1, "a number from 0.0 to 1.0"),
    (OptimizerConfig, "final_fraction", 2.0, "a number from 0.0 to 1.0"),
    (OptimizerConfig, "weight_decay", -0.1, "a number from 0.0 to 1.0"),
    (OptimizerConfig, "final_weight_decay", float("nan"), "a number from 0.0 to 1.0"),
    (OptimizerConfig, "beta1", 1.0, "a number from 0.0 to 0.999999"),
    (OptimizerConfig, "beta2", -0.5, "a number from 0.0 to 0.999999"),
    (OptimizerConfig, "clip_norm", 0.0, "more than 0"),
    (TrainingConfig, "steps", -1, "0 (use epochs) or more"),
    (TrainingConfig, "epochs", 0.0, "more than 0"),
    (TrainingConfig, "ema_decay", 1.0, "a number from 0.0 to 0.999999"),
    (TrainingConfig, "label_smoothing", 1.0, "a number from 0.0 to 0.999"),
    (TrainingConfig, "log_every", 0, "at least 1"),
    (TrainingConfig, "validate_every", 0, "at least 1"),
    (TrainingConfig, "validation_batches", 0, "at least 1"),
    (TrainingConfig, "save_every", 0, "at least 1"),
    (TrainingConfig, "keep_checkpoints", 0, "at least 1"),
    (SamplingConfig, "guidance", -1.0, "a number from 0.0 to 1000.0"),
    (SamplingConfig, "top_k", -1, "0 (off) or more"),
    (SamplingConfig, "top_p", 1.1, "a number from 0.0 to 1.0"),
    (SamplingConfig, "temperature", 0.0, "more than 0"),
    (Config, "batch_size", 0, "at least 1"),
]


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"), REFUSED, ids=[f"{k.__name__}.{n}" for k, n, *_ in REFUSED]
)
def test_a_refusal_names_the_setting_what_it_got_and_what_it_expected(kind, name, value, expected):
    with pytest.raises(ValueError) as error:
        kind(**{name: value})
    sentence = str(error.value)
    assert f"{name}: got {value!r}, expected {expected}" in sentence
    assert sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        (TokenizerConfig, {"channel_multipliers": ()}, r"multipliers: got none, expected one per"),
        (ModelConfig, {"pattern": ()}, r"pattern: got nothing, expected at least one kind"),
        (ModelConfig, {"pattern": ("scale", "rnn")}, r"pattern: got 'rnn', expected 'scale\+ssm'"),
        (Config, {"sampling": SamplingConfig(top_k=5000)}, r"top_k: got 5000, .* vocabulary 4096"),
        (TokenizerConfig, {"norm_groups": 48}, r"160 channels .* norm_groups 48; choose a divisor"),
        (TokenizerConfig, {"image_size": (128, 256)}, r"\(16, 16\) .* gives \(8, 16\); change"),
        (ModelConfig, {"width": 1000}, r"width 1000 is not divisible by heads 16; change one"),
        (ModelConfig, {"pattern": ("scale",) * 3}, r"depth 16 is not a multiple .* length 3"),
        (ModelConfig, {"ssm": SSMConfig(head_dim=60)}, r"inner width 2048 .*ssm.head_dim 60; change"),
        (
            ModelConfig,
            {"pattern": ("scale", "scale+ssm"), "shared_modulation": True},
            r"shared_modulation needs blocks with equally many branches; the pattern mixes them",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(kind, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        kind(**values)


def test_kinds_of_block():
    assert BlockKind.parse("scale+ssm") == BlockKind("scale", ssm=True)
    assert BlockKind.parse("history") == BlockKind("history", ssm=False)
    assert [BlockKind.parse(name).branches for name in ("history+ssm", "scale")] == [3, 2]
    for name in ("", "ssm", "scale+", "scale+ssm+ssm"):
        with pytest.raises(ValueError, match="model.pattern"):
            BlockKind.parse(name)


def test_steps_of_a_run():
    assert TrainingConfig(steps=7).total_steps(1000, 10) == 7
    assert TrainingConfig(epochs=1.5).total_steps(1009, 10) == 150
    assert TrainingConfig(epochs=0.1).total_steps(5, 10) == 1


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
        with pytest.raises(ValueError, match=f"got '{preset}', expected .*{PRESETS[file][-1]}"):
            get_config(file, preset)


# The published training commands: batch, epochs, learning rate per 256 images, start of the
# gates, last share of the learning rate, last weight decay.
PUBLISHED = {
    12: (768, 200, 1e-4, 1e-3, 0.1, 0.05),
    16: (768, 200, 1e-4, 1e-3, 0.1, 0.05),
    20: (768, 250, 1e-4, 1e-3, 0.1, 0.05),
    24: (768, 350, 8e-5, 1e-4, 0.01, 0.05),
    30: (1024, 350, 8e-5, 1e-5, 0.01, 0.08),
}


@pytest.mark.parametrize("file", ["mvar_imagenet256", "var_imagenet256"])
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


def test_sampling_starts_from_the_published_settings():
    sampling = from_config_dict(get_config("mvar_imagenet256", "d16")).sampling
    assert sampling == SamplingConfig(1.5, 900, 0.96, 1.0, smooth=False)


def test_saved_configs_are_readable_json():
    values = json.loads(to_json(Config()))
    assert values["model"]["ssm"]["state_size"] == 64
    assert values["tokenizer"]["scales"][-1] == [16, 16]
