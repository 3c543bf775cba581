"""Configurations: there and back, what is refused and how."""

import json

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
)
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict, from_json, to_config_dict, to_json

TINY = Config(
    tokenizer=TokenizerConfig(image_size=(32, 48), scales=((1, 1), (2, 3))),
    model=ModelConfig(depth=2, pattern=("scale+ssm", "history"), ssm=SSMConfig(chunk=32)),
    sampling=SamplingConfig(smooth=True),
)


@pytest.mark.parametrize("config", [Config(), TINY], ids=["default", "changed"])
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


def test_omitted_settings_keep_their_defaults():
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
        (
            {"tokenizer_training": {"log_every": 0}},
            r"^tokenizer_training.log_every: got 0",
        ),
        ({"model": {"scan": 1}}, r"config.model.scan: got 1, expected a value of type bool"),
        (
            {"training": {"epochs": True}},
            r"config.training.epochs: got True, expected .* type float",
        ),
        ({"data": {"name": 3}}, r"config.data.name: got 3, expected a value of type str"),
        ({"model": 3}, r"config.model: got 3, expected a group of settings"),
        ({"model": {"pattern": "scale"}}, r"config.model.pattern: got 'scale', expected a list"),
        (
            {"tokenizer": {"image_size": [256]}},
            r"config.tokenizer.image_size: got \[256\], expected 2 values",
        ),
        ({"tokenizer": {"scales": [[1, 2, 3]]}}, r"scales: got \[1, 2, 3\], expected 2 values"),
        (
            {"tokenizer": {"scales": [[1, "2"]]}},
            r"config.tokenizer.scales: got '2', expected .* type int",
        ),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(values, sentence):
    for given in (values, ConfigDict(values)):
        with pytest.raises(ValueError, match=sentence):
            from_config_dict(given)


@pytest.mark.parametrize(
    "values",
    [
        {"keep_every": -1},
        {"sample_every": -1},
        {"max_skipped": 0},
        {"profile": (0, 3)},
        {"profile": (4, 3)},
    ],
    ids=str,
)
def test_training_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=f"training.{next(iter(values))}: got .*expected"):
        TrainingConfig(**values)


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
    (DataConfig, "num_workers", -1, "a number from 0 to 512"),
    (TokenizerConfig, "quantizer", "lfq", "one of ('vq', 'bsq')"),
    (TokenizerConfig, "vocabulary", 1, "a number from 2 to 16777216"),
    (TokenizerConfig, "code_channels", 0, "at least 1"),
    (TokenizerConfig, "base_channels", 0, "at least 1"),
    (TokenizerConfig, "blocks_per_level", 0, "at least 1"),
    (TokenizerConfig, "stem_stride", 0, "at least 1"),
    (TokenizerConfig, "patch", 0, "at least 1"),
    (TokenizerConfig, "norm_groups", 0, "at least 1"),
    (TokenizerConfig, "shared_convolutions", -1, "0 (one a scale) or more"),
    (TokenizerConfig, "flip_rate", 1.5, "a number from 0.0 to 1.0"),
    (TokenizerConfig, "flip_scales", -1, "0 (none) or more"),
    (SSMConfig, "state_size", 0, "at least 1"),
    (SSMConfig, "conv_size", 1, "at least 2"),
    (SSMConfig, "expand", 0, "at least 1"),
    (SSMConfig, "head_dim", -1, "at least 1"),
    (SSMConfig, "chunk", 0, "at least 1"),
    (ModelConfig, "num_classes", -1, "0 (the dataset's) or more"),
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
    ("kind", "name", "value", "expected"),
    REFUSED,
    ids=[f"{k.__name__}.{n}" for k, n, *_ in REFUSED],
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
        (
            ModelConfig,
            {"ssm": SSMConfig(head_dim=60)},
            r"inner width 2048 .*ssm.head_dim 60; change",
        ),
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
    assert [BlockKind.parse(name).groups for name in ("history+ssm", "scale")] == [9, 6]
    for name in ("", "ssm", "scale+", "scale+ssm+ssm"):
        with pytest.raises(ValueError, match=r"model\.pattern"):
            BlockKind.parse(name)


def test_steps_of_a_run():
    assert TrainingConfig(steps=7).total_steps(1000, 10) == 7
    assert TrainingConfig(epochs=1.5).total_steps(1009, 10) == 151
    assert TrainingConfig(epochs=0.1).total_steps(5, 10) == 1
    assert TrainingConfig(epochs=200.0).total_steps(500, 768) == 130


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"training": {"steps": 3 * 10**9}}, "^training.steps: got 3000000000, expected at most"),
        ({"tokenizer_training": {"log_every": 2**31}}, "^tokenizer_training.log_every: got 21474"),
        ({"batch_size": 10**12}, "^batch_size: got 1000000000000, expected at most 2147483647"),
        ({"model": {"ssm": {"chunk": 2**31}}}, "^model.ssm.chunk: got 2147483648, expected at"),
    ],
)
def test_what_no_int32_holds_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        from_config_dict(values)
    most = TrainingConfig(steps=2**31 - 1)
    assert Config(seed=2**32 - 1, training=most).training.total_steps(10, 10) == 2**31 - 1


@pytest.mark.parametrize("epochs", [1e12, float("inf")])
def test_epochs_of_more_steps_than_an_int32_counts_are_refused(epochs):
    with pytest.raises(ValueError, match=r"training.epochs: got .* steps, expected at most 2147"):
        TrainingConfig(epochs=epochs).total_steps(1000, 10)


def test_saved_configs_are_readable_json():
    values = json.loads(to_json(Config()))
    assert values["model"]["ssm"]["state_size"] == 64
    assert values["tokenizer"]["scales"][-1] == [16, 16]


def test_boolean_remat_of_old_configs_is_read():
    values = json.loads(to_json(Config()))
    for old, new in ((False, "none"), (True, "full")):
        values["model"]["remat"] = old
        assert from_json(json.dumps(values)).model.remat == new


@pytest.mark.parametrize(("old", "new"), [("none", "xla"), ("pallas", "pallas_tpu")])
def test_former_names_of_kernels_are_read(old, new):
    values = json.loads(to_json(Config()))
    values["model"]["kernels"] = old
    assert ModelConfig(kernels=old).kernels == new
    assert from_json(json.dumps(values)).model.kernels == new
    assert from_config_dict(ConfigDict({"model": {"kernels": old}})) == Config(
        model=ModelConfig(kernels=new)
    )


def test_what_follows_from_the_sizes_of_a_trunk():
    config = ModelConfig(
        depth=6,
        width=96,
        heads=4,
        pattern=("history", "scale+ssm", "history"),
        mlp_ratio=1.5,
        ssm=SSMConfig(expand=2, head_dim=48),
    )
    assert (config.repeats, config.history_positions) == (2, (0, 2))
    assert (config.head_dim, config.hidden_width) == (24, 144)
    assert (config.ssm_width, config.ssm_heads) == (192, 4)


def test_a_config_file_without_a_preset_has_its_own_default(tmp_path):
    assert load_config("shapes.py") == load_config("shapes.py:var64")
    (tmp_path / "mine.py").write_text(
        "from mvar_jax.config import Config\n"
        "from mvar_jax.config.tree import to_config_dict\n"
        "def get_config():\n"
        "    return to_config_dict(Config(batch_size=12))\n"
    )
    assert load_config(str(tmp_path / "mine.py")).batch_size == 12
