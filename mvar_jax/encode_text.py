"""Encodes prompts into a folder of text features, to train on or to sample from.

    python -m mvar_jax.encode_text --encoder=flan-t5-xl --prompts=captions.txt --out=runs/captions
    python -m mvar_jax.encode_text --encoder=wordllama --prompt="a red ball" --out=runs/ball

The encoder is a folder with the weights and the tokenizer of a T5 v1.1, or "wordllama", the small
embeddings of that package. A file of prompts has one a line (an empty line is the empty prompt), or
objects of JSON with a "prompt" each if it is a .jsonl; a folder has a .txt for each.
"""

import jax
from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.config import MeshConfig
from mvar_jax.convert.text_encoder import load_text_encoder
from mvar_jax.files import input_path, user_path
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.mesh.sharding import make_mesh
from mvar_jax.models.checksum import checksum
from mvar_jax.text.feature_file import DTYPES, check_new, write_features
from mvar_jax.text.prompt_files import read_prompts


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("encoder", None, "Folder of a T5, or wordllama.", required=True)
    flags.DEFINE_string("out", None, "Folder to write; new.", required=True)
    flags.DEFINE_string("prompts", None, "File of prompts, or a folder of them.")
    flags.DEFINE_multi_string("prompt", None, "A prompt; may be given several times.")
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Dtype of the matmuls.")
    flags.DEFINE_enum("stored_dtype", "float32", list(DTYPES), "Dtype of the features stored.")


def main() -> None:
    """Writes the features and prints how many."""
    values = flags.FLAGS
    out, prompts = user_path(values.out), get_prompts()
    check_new(out)
    mesh = make_mesh(MeshConfig(), jax.local_devices())
    encoder = load_text_encoder(values.encoder, dtype=values.dtype, mesh=mesh)
    with TaskProgress("encode", len(prompts), "prompt") as progress:
        manifest = write_features(
            out,
            encoder,
            prompts,
            dtype=values.stored_dtype,
            encoder_checksum=checksum(encoder.params),
            done=progress.advance,
        )
    cli.say(
        f"The features of {manifest.prompts} prompts ({manifest.tokens} tokens of "
        f"{manifest.width} channels, {manifest.dtype}) are in {out}."
    )


def get_prompts() -> list[str]:
    """The prompts that the flags give. Raises ValueError unless one of both flags is given."""
    values = flags.FLAGS
    check(
        (values.prompts is None) != (values.prompt is None),
        "--prompts, --prompt: got both or neither, expected a file of prompts or some of them.",
    )
    if values.prompts is None:
        return values.prompt
    return read_prompts(input_path(values.prompts))


if __name__ == "__main__":
    cli.run(main, define_flags)
