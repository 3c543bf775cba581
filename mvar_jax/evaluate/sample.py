"""The command `sample`: images for evaluation."""

import jax
from absl import flags

from mvar_jax import cli
from mvar_jax.cli import asked
from mvar_jax.config import MeshConfig
from mvar_jax.evaluation.samples import (
    LAYOUTS,
    SampleDrawing,
    SampleManifest,
    environment,
    find_samples,
    make_layout,
    weights_checksums,
    write_samples,
)
from mvar_jax.files import file_checksum, input_path, user_path
from mvar_jax.mesh.sharding import make_mesh

BATCH_SIZE = 64


def define_flags() -> None:
    """Defines the flags of this command."""
    asked.define_model()
    asked.define_prompts()
    asked.define_features()
    cli.define_verify()
    cli.define_policy()
    cli.define_settings(batch="Images that a device draws at a time.")
    cli.define_distributed()
    flags.DEFINE_integer("num", None, "How many images, exactly; see --layout.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the randomness.", lower_bound=0)
    flags.DEFINE_enum("layout", "adm", list(LAYOUTS), "A samples.npz, or a benchmark's pictures.")
    flags.DEFINE_bool("png", False, "Write a picture of every image too.")
    flags.DEFINE_string("out", None, "Folder to write; new, or begun before.", required=True)


def main() -> None:
    """Draws what is missing, and says where all of it is."""
    out = user_path(flags.FLAGS.out)
    cli.join()
    with jax.set_mesh(make_mesh(MeshConfig(), jax.local_devices())):
        drawing, plan = get_drawing()
        manifest, when = find_samples(plan, out), "already"
        if manifest is None:
            cli.say(f"Drawing {drawing.count} images: {drawing.labels}.")
            manifest, when = write_samples(drawing, plan, out), "now"
    checksum = f"; their SHA-256 is {manifest.sha256}" if manifest.sha256 else ""
    cli.say(f"All {drawing.count} images are {when} in {out}{checksum}.")


def get_drawing() -> tuple[SampleDrawing, SampleManifest]:
    """What the flags ask for, and how a manifest describes it."""
    values = flags.FLAGS
    model, prompts = asked.get_prompt_set(asked.get_model())
    layout, count = make_layout(values.layout, prompts=prompts, count=values.num, png=values.png)
    about = {"weights": weights_checksums(model), "policy": _describe_policy()}
    if values.policy is not None:
        model = model.compressed(**cli.get_policy())
    settings = cli.get_settings(model.config.tokenizer.vocabulary)
    batch = settings.pop("batch_size", BATCH_SIZE)
    drawing = SampleDrawing(model, layout, count, values.seed, batch, settings)
    return drawing, SampleManifest(drawing.describe() | about, environment())


def _describe_policy() -> dict[str, str | float]:
    """The policy and its size, and the checksum of the profile's file; nothing without one."""
    policy = {name: value for name, value in cli.get_policy().items() if name != "profile"}
    profile = flags.FLAGS.profile
    return policy if profile is None else policy | {"profile": file_checksum(input_path(profile))}
