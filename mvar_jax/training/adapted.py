"""The whole trunk of a working directory: its own, or a base with adapters merged into it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax

from mvar_jax.array_types import Params
from mvar_jax.checks import check, check_given
from mvar_jax.config import AdapterConfig, Config
from mvar_jax.hub import open_workdir
from mvar_jax.models.adapter import class_rows, merge, spread_classes
from mvar_jax.models.checksum import checksum
from mvar_jax.models.narrowing import narrowed
from mvar_jax.training.weights import load_adapter, load_trunk, model_classes
from mvar_jax.workdir import RunRecord, Workdir

Adapters: TypeAlias = Sequence[str | Path] | Mapping[str, float]
"""The working directories of adapters, perhaps with weights: how much of each is taken."""


class Adapter(NamedTuple):
    """The working directory of an adapter, and how much of it is taken, 1 for all."""

    workdir: Workdir
    weight: float = 1.0


def _weighted(adapters: Adapters) -> list[Adapter]:
    """The adapters with their weights. Raises ValueError for one that is no finite number."""
    weights = adapters.values() if isinstance(adapters, Mapping) else (1.0 for _ in adapters)
    pairs = list(zip(adapters, weights))
    for path, weight in pairs:
        check(
            isinstance(weight, Real) and math.isfinite(weight),
            f"adapters: got the weight {weight!r} for {path}, expected a number, as 0.5.",
        )
    return [Adapter(Workdir.of(path), float(weight)) for path, weight in pairs]


def _check_differ(adapters: Sequence[Adapter]) -> None:
    """Raises ValueError for an adapter that is given twice: whether it is to count so is unsaid."""
    paths = [adapter.workdir.path for adapter in adapters]
    again = next((path for path in paths if paths.count(path) > 1), None)
    check(
        again is None,
        f"adapters: got {again} twice, expected each of them once; weight it, as by 2.0.",
    )


class WholeTrunk(NamedTuple):
    """A trunk as it is sampled from, and what was trained to make it."""

    config: Config  # without an adapter
    params: Params
    class_names: tuple[str, ...]  # none of a model of texts
    base: Workdir  # that holds the trunk itself, without adapters
    adapters: tuple[Adapter, ...] = ()

    @property
    def runs(self) -> tuple[Workdir, ...]:
        """The working directories of all runs that trained it."""
        return (self.base, *(adapter.workdir for adapter in self.adapters))


def load_whole_trunk(
    workdir: Workdir,
    adapters: Adapters = (),
    *,
    base: Workdir | None = None,
    verify: bool = False,
    narrow: bool = False,
) -> WholeTrunk:
    """The trunk of a working directory, adapters merged into it.

    workdir: that of a trunk, or of an adapter.
    adapters: more of them, of the same base. Their changes are added up, so that the order does
        not matter but for that of new classes, which come behind those of the base.
    base: where the base of the adapter in `workdir` is now, by default where it was.
    narrow: whether the parameters are as sampling holds them (`models.narrowing`).

    Raises ValueError where the base is gone or has other weights than the adapters were trained
    on, where `adapters` are none or one of them is given twice, and as `load_trunk` does.
    """
    config, weighted = workdir.config(), _weighted(adapters)
    if config.adapter.rank:
        base, weighted = find_base(workdir, base), [Adapter(workdir), *weighted]
        check_is_whole(base)
    else:
        check(base is None, f"base: {workdir.path} is no adapter, so it has none; leave it out.")
        base = workdir
    _check_differ(weighted)
    own = base.config()
    names = model_classes(own.model, base)
    params = load_trunk(own, base, verify=verify, narrow=narrow and not weighted)
    if weighted:
        _check_base(weighted, params, base)
        params, names = _merge_all(params, names, weighted, verify=verify)
        params = narrowed(params, config.model.compute_dtype) if narrow else params
    model = replace(config.model, num_classes=len(names) or config.model.num_classes)
    config = replace(config, model=model, adapter=AdapterConfig())
    return WholeTrunk(config, params, names, base, tuple(weighted))


def whole_classes(workdir: Workdir) -> tuple[str, ...]:
    """The names of the classes that `load_whole_trunk` draws, without reading weights."""
    config = workdir.config()
    names = model_classes(config.model, workdir)
    if config.adapter.rank == 0:
        return names
    base = find_base(workdir)
    return _all_classes(model_classes(base.config().model, base), [names])


def _all_classes(base: tuple[str, ...], adapters: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The classes of a base, then those that only adapters have."""
    return tuple(dict.fromkeys((*base, *(name for names in adapters for name in names))))


def find_base(workdir: Workdir, given: Workdir | None = None) -> Workdir:
    """The base of the adapter in a working directory: the one given, or where it was.

    Raises ValueError where nothing is there, and as `open_workdir` does.
    """
    base = given or open_workdir(adapter_record(workdir).base)
    check(
        base.path.is_dir(),
        f"{workdir.path}: its base {base.path} is not there; name the folder that it is in now "
        "(--base of train; of other programs --workdir, with --adapter for this one).",
    )
    return base


def check_adapts(adapter: Workdir, weights: str, base: Workdir) -> None:
    """Raises ValueError unless an adapter was trained on the weights of `base`, named `weights`."""
    record = adapter_record(adapter)
    check(
        record.base_checksum == weights,
        f"{adapter.path}: adapts other weights than {base.path} holds ({weights[:12]}, expected "
        f"{record.base_checksum[:12]}); name its own base, which was {record.base}.",
    )


def adapter_record(workdir: Workdir) -> RunRecord:
    """What an adapter's run was started as. Raises ValueError where nothing says it."""
    record = workdir.record()
    return check_given(
        record if record and record.base else None,
        f"{workdir.path}: has no run.json that names a base, expected that of an adapter; put back "
        "a good copy.",
    )


def check_is_whole(workdir: Workdir) -> None:
    """Raises ValueError for a working directory that holds an adapter, not a whole trunk."""
    check(
        workdir.config().adapter.rank == 0,
        f"{workdir.path}: holds an adapter, expected a whole model; make one of it by python -m "
        "mvar_jax.convert export --for=sampling, and name that.",
    )


def _check_base(adapters: Sequence[Adapter], params: Params, base: Workdir) -> None:
    """Raises ValueError for what is no adapter, and for adapters of other weights."""
    name = checksum(params)
    for adapter in adapters:
        path = adapter.workdir.path
        check(
            adapter.workdir.config().adapter.rank > 0,
            f"{path}: holds a whole model, expected an adapter; name one that was trained with "
            "--config.adapter.rank.",
        )
        check_adapts(adapter.workdir, name, base)


def _merge_all(
    params: Params, names: tuple[str, ...], adapters: Sequence[Adapter], *, verify: bool
) -> tuple[Params, tuple[str, ...]]:
    """The adapted trunk and the names of its classes, those that adapters add at the end."""
    configs = [adapter.workdir.config() for adapter in adapters]
    classes = [model_classes(own.model, a.workdir) for own, a in zip(configs, adapters)]
    every = _all_classes(names, classes)
    if len(every) > len(names):
        rows = [*range(len(names)), *(None for _ in every[len(names) :])]
        params = params | {"class_embedding": class_rows(params["class_embedding"], rows)}
    for adapter, own, some in zip(adapters, configs, classes):
        loaded = load_adapter(own, adapter.workdir, verify=verify)
        loaded = spread_classes(loaded, [every.index(name) for name in some], len(every))
        add = partial(merge, strength=own.adapter.strength, weight=adapter.weight)
        params = jax.jit(add, donate_argnums=0)(params, loaded)
    return params, every
