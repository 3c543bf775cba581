"""Measures how well a tokenizer keeps images, and how many of its codes it uses."""

from dataclasses import replace

from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.cli.networks import (
    define_lpips,
    define_networks,
    describe_judges,
    get_judges,
)
from mvar_jax.config import Config, DataConfig
from mvar_jax.data.source import draws_images
from mvar_jax.data.split_images import SplitImages
from mvar_jax.evaluation.tokenizer_quality import measure_tokenizer
from mvar_jax.files import write_json
from mvar_jax.hub import open_workdir
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.training.weights import load_tokenizer


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "Where the tokenizer is.", required=True)
    cli.define_verify()
    flags.DEFINE_string("split", None, "In place of the config's data.validation_split.")
    flags.DEFINE_string("directory", None, "In place of the config's data.directory.")
    flags.DEFINE_integer("images", None, "At most so many; all if left out.", lower_bound=2)
    define_networks()
    define_lpips()
    flags.DEFINE_string("out", None, "JSON file of the report.")
    flags.DEFINE_integer("batch_size", 32, "Images computed at a time.", lower_bound=1)


def main() -> None:
    """Reconstructs, compares, and says what was found."""
    values = flags.FLAGS
    out = None if values.out is None else cli.output_file(".json")
    workdir = open_workdir(values.workdir)
    config = workdir.tokenizer.config()
    data = _data(config)
    split = values.split or data.validation_split
    judges = get_judges(values.batch_size)
    params = load_tokenizer(config, workdir, verify=cli.get_verify())
    images = SplitImages.open(data, split, config.tokenizer.image_size, values.images)
    with TaskProgress("evaluate", images.count, "image") as progress:
        found = measure_tokenizer(
            config.tokenizer,
            params,
            images,
            judges,
            batch_size=values.batch_size,
            report=progress.reach,
        )
    for name, value in found.items():
        if isinstance(value, float):
            cli.say(f"{name} {value:.6g}")
    codes = "codes" if config.tokenizer.quantizer == "vq" else "values of bits"
    for scale, usage in enumerate(found["usage"], start=1):  # as in metrics.jsonl
        share, perplexity = usage["share"], usage["perplexity"]
        cli.say(f"scale {scale}: {share:.1%} of the {codes} occur, perplexity {perplexity:.2f}")
    if out is not None:
        height, width = images.size
        found |= {"data": data.name, "split": split, "height": height, "width": width}
        write_json(out, found | {"networks": describe_judges(judges)})


def _data(config: Config) -> DataConfig:
    """The run's data, of `--directory` where it is given."""
    own = cli.given("directory")
    check(
        not own or not draws_images(config.data.name),
        f"--directory: got one for {config.data.name}, expected none, as the library has these "
        "images itself; leave it out.",
    )
    return replace(config.data, **own)
