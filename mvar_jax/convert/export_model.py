"""A run's model as a working directory of its own: what sampling needs, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from mvar_jax.array_types import Params, path_name
from mvar_jax.checks import check
from mvar_jax.files import check_writable, draft_folder
from mvar_jax.models.checksum import checksum
from mvar_jax.training.parameters import save_params
from mvar_jax.training.weights import check_learned_from, load_tokenizer, load_trunk
from mvar_jax.workdir import Workdir


def export_model(workdir: Workdir, out: Path, *, verify: bool = False) -> str:
    """Writes a working directory that is sampled from like this one, in a fraction of its bytes.

    It holds the config, the names of the classes, the parameters that are sampled from, which are
    the average where one is kept, and the same of the tokenizer, all sealed; no optimizer, no
    position in the data, no log. It is there whole or not at all. Returns in words what was
    written. Raises ValueError, with nothing written, where `out` exists, and as `load_trunk` and
    `load_tokenizer` do.
    """
    check_out(out)
    config = workdir.config()
    trunk = load_trunk(config, workdir, verify=verify)
    tokenizer = load_tokenizer(config, workdir, verify=verify)
    check_learned_from(workdir, lambda: checksum(tokenizer), workdir.tokenizer.path)
    with draft_folder(out) as draft:
        target = Workdir.of(draft)
        _write(target, workdir, trunk)
        _write(target.tokenizer, workdir.tokenizer, tokenizer)
        if workdir.names_classes:
            target.save_class_names(workdir.class_names(config.model.num_classes))
        draft.replace(out)
    return "a model to sample from, its tokenizer included"


def check_out(out: Path) -> None:
    """Raises ValueError or OSError unless a new folder can be written there."""
    check(not out.exists(), f"--out: {out} is there already; name a new folder.")
    folder = out.absolute().parent
    check(folder.is_dir(), f"--out: {folder} is no directory; make it, or name another place.")
    check_writable(out)


def _write(target: Workdir, source: Workdir, params: Params) -> None:
    """One half of a model, trunk or tokenizer, as the checkpoint of step 0."""
    target.save_config(source.config())
    record = source.record()
    if record is not None:
        target.save_record(replace(record, total_steps=0))
    save_params(target.checkpoints, _leaves(params))


def _leaves(params: Params) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(path_name(path).split("/")), np.asarray(leaf)
