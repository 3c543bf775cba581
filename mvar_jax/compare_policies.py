"""Compares policies of cache compression on a trained model, all on the same noise.

    python -m mvar_jax.compare_policies --workdir=runs/shapes --policies=hack,scalekv,snapkv \
        --ratios=0.5,0.7 --samples=256 --out=comparison

Writes comparison.json and .md into --out after every run, at the end curves.png and samples.png.
Policies that need a profile take it from --profile, which is best calibrated with another seed.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.cache import parse_policy
from mvar_jax.checks import check, check_seed
from mvar_jax.cli import asked
from mvar_jax.cli.networks import define_lpips, define_networks, describe_judges, get_judges
from mvar_jax.evaluation.comparison_report import markdown, save_pictures, save_report
from mvar_jax.evaluation.policy_comparison import compare_policies
from mvar_jax.evaluation.recognition import find_recognizer
from mvar_jax.files import user_path
from mvar_jax.mesh.progress import TaskProgress


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("workdir", None, "Directory of a trained model.", required=True)
    cli.define_verify()
    asked.define_prompts()
    cli.define_policies()
    flags.DEFINE_list("ratios", ["0.3", "0.5", "0.7", "0.9"], "Shares to evict.")
    flags.DEFINE_integer("samples", 256, "Images of every run.", lower_bound=2)
    flags.DEFINE_integer("batch_size", 32, "Images at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
    flags.DEFINE_bool("judge", True, "Fit a classifier on the data, for accuracy.")
    define_networks()
    define_lpips()
    cli.define_profile()
    flags.DEFINE_string("out", None, "Directory to write into; made if missing.", required=True)


def main() -> None:
    """Runs all policies and writes the report."""
    values, profile = flags.FLAGS, cli.get_profile()
    ratios = cli.get_numbers("ratios", lambda ratio: 0 < ratio < 1, "shares below 1, as 0.5,0.7")
    check_seed(values.seed)
    check(len(values.policies) > 0, "--policies: got none, expected names as hack,snapkv.")
    for name in values.policies:
        parse_policy(name)
    out, judges = user_path(values.out), get_judges(values.batch_size)
    model = load(values.workdir, verify=cli.get_verify())
    model.check_remembers()
    condition, prompts = asked.get_condition(model, values.samples)
    out.mkdir(parents=True, exist_ok=True)  # before anything runs long
    found = find_recognizer(model.config, condition, prompts) if values.judge else None
    accuracy, real = found or (None, None)
    more = {"seed": values.seed, "label_accuracy_real": real, "networks": describe_judges(judges)}
    comparisons = compare_policies(
        model,
        values.policies,
        ratios,
        condition=condition,
        seed=values.seed,
        batch_size=values.batch_size,
        profile=profile,
        accuracy=accuracy,
        judges=judges,
        progress=lambda name: TaskProgress(name, values.samples, "image").reach,
    )
    for comparison in comparisons:
        save_report(comparison, out, more)
    save_pictures(comparison, out)
    print(markdown(comparison))


if __name__ == "__main__":
    cli.run(main, define_flags, times_compilation=True)
