"""A run's model as a working directory of its own: what sampling needs, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from mvar_jax.array_types import Params, path_name
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.files import check_writable, draft_folder, folder_exists, is_whole, publish
from mvar_jax.training.adapted import Adapters, load_whole_trunk
from mvar_jax.training.parameters import save_params
from mvar_jax.training.weights import check_learned_from, load_tokenizer
from mvar_jax.workdir import RunRecord, Workdir


def export_model(
    workdir: Workdir, out: Path, adapters: Adapters = (), *, verify: bool = False
) -> str:
    """Writes a working directory that is sampled from like this one, in a fraction of its bytes.

    Adapters are merged into the trunk, those given and that which `workdir` may be of.
    It holds the config, the names of the classes, the parameters that are sampled from, which are
    the average where one is kept, and the same of the tokenizer, all sealed; no optimizer, no
    position in the data, no log. It is there whole or not at all. Returns in words what was
    written. Raises ValueError, with nothing written, where `out` exists, and as `load_whole_trunk`
    and `load_tokenizer` do.
    """
    check_out(out)
    trunk = load_whole_trunk(workdir, adapters, verify=verify)
    source = trunk.base.tokenizer
    tokenizer = load_tokenizer(trunk.config, trunk.base, verify=verify)
    for run in trunk.runs:
        check_learned_from(run, lambda: tokenizer, source.path)
    with draft_folder(out) as draft:
        target = Workdir.of(draft)
        _write(target, trunk.config, trunk.base.record(), trunk.params)
        _write(target.tokenizer, source.config(), source.record(), tokenizer)
        if any(run.names_classes for run in trunk.runs):
            target.save_class_names(trunk.class_names)
        publish(draft, out)
    merged = f", with {len(trunk.adapters)} adapter(s) merged" if trunk.adapters else ""
    return f"a model to sample from, its tokenizer included{merged}"


def check_out(out: Path) -> None:
    """Raises ValueError or OSError unless a new folder can be written there."""
    check(not is_whole(out), f"--out: {out} is there already; name a new folder.")
    folder = out.absolute().parent
    check(
        folder_exists(folder), f"--out: {folder} is no directory; make it, or name another place."
    )
    check_writable(out)


def _write(target: Workdir, config: Config, record: RunRecord | None, params: Params) -> None:
    """One half of a model, trunk or tokenizer, as the checkpoint of step 0."""
    target.save_config(config)
    if record is not None:
        target.save_record(replace(record, total_steps=0))
    save_params(target.checkpoints, _leaves(params))


def _leaves(params: Params) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(path_name(path).split("/")), np.asarray(leaf)
