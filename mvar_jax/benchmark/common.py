"""The flags that the benchmarks have, and what their values mean."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from mvar_jax import cli
from mvar_jax.benchmark.machine import describe_machine
from mvar_jax.config import Config
from mvar_jax.files import user_path
from mvar_jax.scales import VAR_SCHEDULES, ScaleSchedule


def define_common(*, repeats: int) -> None:
    """Defines `--config`, `--repeats` and `--json`."""
    cli.define_config()
    cli.define_json("the rows")
    flags.DEFINE_integer("repeats", repeats, "Times that every program runs.", lower_bound=1)


def define_batch() -> None:
    """Defines `--batch`; see `get_batches`."""
    flags.DEFINE_list("batch", ["1"], "Images at once, a list for a row of each.")


def define_schedule() -> None:
    """Defines `--schedule`; see `get_config`."""
    flags.DEFINE_enum("schedule", None, VAR_SCHEDULES, "Image side of VAR's scales to take.")


def get_config() -> Config:
    """The config, with the scales of `--schedule` where it is given."""
    config, name = cli.get_config(), flags.FLAGS.schedule
    return config if name is None else with_schedule(config, VAR_SCHEDULES[name])


def with_schedule(config: Config, schedule: ScaleSchedule) -> Config:
    """The config at these scales, and the image size that they make."""
    stride, (height, width) = config.tokenizer.stride, schedule.last
    tokenizer = replace(
        config.tokenizer, scales=schedule.sizes, image_size=(height * stride, width * stride)
    )
    return replace(config, tokenizer=tokenizer)


def describe(config: Config) -> dict[str, Any]:
    """What every row says of the model, as "var_imagenet256:d16", and of the machine."""
    flag = flags.FLAGS["config"]
    file, _, preset = config_flags.get_config_filename(flag).partition(":")
    return {
        "model": Path(file).stem + (f":{preset}" if preset else ""),
        "overrides": config_flags.get_override_values(flag),
        "image_size": config.tokenizer.image_size,
        "tokens": config.tokenizer.schedule.total,
    } | describe_machine(config.model.compute_dtype)


def get_batches() -> list[int]:
    """The numbers of images. Raises ValueError for others than whole ones from 1."""
    found = cli.get_numbers("batch", lambda n: n >= 1 and n % 1 == 0, "numbers of images from 1")
    return [int(size) for size in found]


def define_reference() -> None:
    """Defines the flags by which the official code runs beside ours."""
    flags.DEFINE_string("reference", None, "A checkout of the official code, to time in turn.")
    flags.DEFINE_string("reference_python", "python3", "An interpreter that runs it.")


def get_reference() -> dict[str, Any] | None:
    """The checkout and the interpreter, None without `--reference`."""
    values = flags.FLAGS
    if values.reference is None:
        return None
    return {"checkout": user_path(values.reference), "python": values.reference_python}


def machine_line(about: dict[str, Any]) -> str:
    """What was measured of the machine, in words."""
    matmul, copy = about["matmul_flops_per_second"], about["copy_bytes_per_second"]
    height, width = about["image_size"]
    return (
        f"{about['model']}, {width}x{height} pixels, on {about['device']}, {about['dtype']}: a "
        f"large product reaches {matmul / 1e9:.0f} GFLOP/s, a copy {copy / 1e9:.1f} GB/s\n"
    )
