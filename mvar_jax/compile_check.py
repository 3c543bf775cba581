"""Checks, before paying for TPUs or GPUs, whether a training fits and how fast it can be.

    python -m mvar_jax.compile_check --config=configs/mvar_imagenet256.py:d32 --topology=v5e:16x16

Compiles the real training step (with `--sample` the real sampler, perhaps under a cache `--policy`,
with `--train_tokenizer` the training step of the tokenizer, once its discriminator has begun) with
the compiler for TPUs, on a machine without them: pip install -e '.[tpu]'; for GPUs, as in
`--topology=h100:2x8` for 2 hosts of 8 GPUs: '.[gpu_compiler]'. Without `--profile` a policy has the
same mean budget in all layers. Ends with exit code 1 if it does not fit.
"""

import json
import os
import sys
from functools import partial

import jax
from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.compilation.program import PROGRAMS
from mvar_jax.compilation.report import REMEDY, largest_arrays
from mvar_jax.compilation.sampling_check import check_sampling, policy_plan
from mvar_jax.compilation.tokenizer_check import check_tokenizer_training, tokenizer_programs
from mvar_jax.compilation.training_check import check_training
from mvar_jax.files import write_text
from mvar_jax.mesh.progress import TaskProgress

DOES_NOT_FIT = 1  # exit code


def define_flags() -> None:
    """Defines the flags of this program."""
    cli.define_config()
    flags.DEFINE_string("topology", None, "Chips, as in v5e:16x16 or h100:1x8.", required=True)
    flags.DEFINE_bool("sample", False, "Check the sampler instead of the training step.")
    flags.DEFINE_bool("train_tokenizer", False, "Check the tokenizer's training step instead.")
    flags.mark_bool_flags_as_mutual_exclusive(["sample", "train_tokenizer"])
    cli.define_policy()
    cli.define_json("the figures")


def main() -> None:
    """Compiles, prints, and writes the figures."""
    # Nothing is executed: keep JAX from looking for devices, TPUs and their locks.
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(ALLOW_MULTIPLE_LIBTPU_LOAD="true", TPU_SKIP_MDS_QUERY="1")
    config, values = cli.get_config(), flags.FLAGS
    out, policy = cli.json_file(), cli.get_policy()
    check(values.sample or not policy, "--policy: it is of sampling; give --sample too.")
    plan = policy_plan(**policy) if policy else None
    check_this, programs = check_training, PROGRAMS
    if values.sample:
        check_this = partial(check_sampling, plan=plan)
    if values.train_tokenizer:
        check_this, programs = check_tokenizer_training, tokenizer_programs(config)
    try:
        with TaskProgress("compile", programs, "program") as progress:
            report = check_this(config, values.topology, advance=progress.advance)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(largest_arrays(str(error), values.topology), file=sys.stderr)
        sys.exit(DOES_NOT_FIT)
    print(report.as_text())
    if out is not None:
        write_text(out, json.dumps(report.as_json(), indent=1) + "\n")
    if report.share > 1:
        message = f"does not fit: takes {report.share:.0%} of the memory. {REMEDY}"
        print(f"error: {message}", file=sys.stderr)
        sys.exit(DOES_NOT_FIT)


if __name__ == "__main__":
    cli.run(main, define_flags, times_compilation=True)
