"""What the released Infinity models cache under each policy, in bytes, beside the papers' figures.

    python -m mvar_jax.cache_sizes --model=2b --images=1,8

Sizes are those of the arrays that attention returns at 1024x1024, with guidance. Nothing is
allocated or loaded. A policy that needs a profile has a random one, on which sizes hardly depend.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.evaluation.cache_sizes import MODELS, size_header, size_rows
from mvar_jax.evaluation.markdown import markdown_header, markdown_line


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_enum("model", "2b", MODELS, "The released model.")
    flags.DEFINE_list("images", ["1", "8"], "Numbers of images at a time.")


def main() -> None:
    """Computes and prints a table."""
    expected = "whole numbers from 1, as 1,8"
    counts = cli.get_numbers("images", lambda n: n >= 1 and n == int(n), expected)
    images = tuple(map(int, counts))
    print(markdown_header(size_header(images)))
    for row in size_rows(flags.FLAGS.model, images):
        print(markdown_line(row), flush=True)


if __name__ == "__main__":
    cli.run(main, define_flags)
