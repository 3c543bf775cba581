"""Measures a set of images against a reference: FID and its relatives."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from absl import flags

from mvar_jax import cli
from mvar_jax.checks import check
from mvar_jax.cli.networks import (
    INCEPTION,
    define_networks,
    describe_networks,
    get_networks,
)
from mvar_jax.data.image_sets import holds_images
from mvar_jax.data.split_images import SplitImages
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.set_metrics import OpenedSet, check_sizes, compare, open_set, remarks
from mvar_jax.evaluation.set_sources import FileSource, SetSource, SplitSource
from mvar_jax.evaluation.set_statistics import SetStatistics, save_statistics
from mvar_jax.files import HUB, check_writable, folder_exists, input_path, user_path, write_json
from mvar_jax.hub import open_workdir
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.networks.features import FeatureNetwork

NAMES = ("samples", "reference")


def define_flags() -> None:
    """Defines the flags of this command."""
    about = "a folder, an .npz, or RUN@SPLIT: that split of the run's data"
    flags.DEFINE_string("samples", None, f"The images: {about}.", required=True)
    flags.DEFINE_string("reference", None, f"Real images, or in an .npz their statistics: {about}.")
    define_networks()
    flags.DEFINE_string("store", None, ".npz to keep the statistics of --samples in.")
    flags.DEFINE_string("out", None, "JSON file of the report.")
    flags.DEFINE_integer("batch_size", 64, "Images computed at a time.", lower_bound=1)


def main() -> None:
    """Measures, compares, and says what was found."""
    out = None if flags.FLAGS.out is None else cli.output_file(".json")
    store, sets = _store(), _sets()
    networks = get_networks([INCEPTION])
    opened = {network: [open_set(path, network) for path in sets] for network in networks}
    extractors = {network: _extractor(network, own) for network, own in opened.items()}
    found: dict[FeatureNetwork, list[SetStatistics]] = {network: [] for network in networks}
    for number in range(len(sets)):
        for network, extractor in extractors.items():
            found[network].append(_measure(opened[network][number], extractor))
        if number == 0 and store is not None:  # before a reference that may turn out damaged
            save_statistics(store, {network: one for network, (one,) in found.items()})
    report: dict[str, Any] = {}
    notes: list[str] = []
    for network, pair in found.items():
        own = compare(network.name, *pair) if len(pair) == 2 else {}
        report = _merged(report, own)
        notes += remarks(network.name, {s.name: one for s, one in zip(sets, pair)}, own)
    notes = list(dict.fromkeys(notes))
    for line in (*(f"{name} {value:.6g}" for name, value in report.items()), *notes):
        cli.say(line)
    if out is not None:
        described = zip(NAMES, sets, next(iter(found.values())))
        report |= {name: _describe(source, one) for name, source, one in described}
        report |= {"networks": describe_networks(networks), "notes": notes}
        write_json(out, report)


def _sets() -> list[SetSource]:
    """The samples and, where one is given, the reference, whose images must have one size."""
    samples, reference = flags.FLAGS.samples, flags.FLAGS.reference
    check(
        reference is not None or flags.FLAGS.store is not None,
        "expected --reference, to compare --samples with, or --store, to keep their statistics.",
    )
    found = [_source(name) for name in (samples, reference) if name is not None]
    if len(found) == 2:
        check_sizes(*found)
    return found


def _source(name: str) -> SetSource:
    """A folder, an .npz, or RUN@SPLIT where no file has that name; a RUN may be on the Hub."""
    run, mark, split = name.rpartition("@")
    path = None if name.startswith(HUB) else user_path(name)
    if path is not None and (not mark or path.exists()):
        check(
            not (path / "config.json").is_file(),
            f"{name}: is the folder of a run, expected images; a split of its data is {name}@test.",
        )
        return FileSource(input_path(name))
    check(run != "" and split != "", f"{name}: expected RUN@SPLIT, as runs/digits@test.")
    config = open_workdir(run).config()
    images = SplitImages.open(config.data, split, config.tokenizer.image_size, None)
    return SplitSource(name, images)


def _extractor(network: FeatureNetwork, sets: list[OpenedSet]) -> FeatureExtractor:
    """What computes the features of all sets, in batches no larger than the largest of them."""
    most = max(1 if one.images is None else one.images.count for one in sets)
    return FeatureExtractor(network, min(flags.FLAGS.batch_size, most))


def _measure(opened: OpenedSet, extractor: FeatureExtractor) -> SetStatistics:
    with ExitStack() as open_bars:

        def report(name: str, count: int):
            return open_bars.enter_context(TaskProgress(name, count, "image")).reach

        return opened.measure(extractor, report)


def _merged(report: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    both = report.keys() & other.keys()
    check(
        not both,
        f"evaluation: got {', '.join(sorted(both))} of two networks, expected other names of each.",
    )
    return report | other


def _store() -> Path | None:
    """The file of `--store`, which may replace statistics, but never images or what is read."""
    name = flags.FLAGS.store
    if name is None:
        return None
    path = user_path(name)
    check(
        path.suffix == ".npz" and not path.is_dir(),
        f"--store: got {name!r}, expected the name of a file that ends in .npz.",
    )
    check(
        folder_exists(path.absolute().parent),
        f"--store: got {name!r}, whose folder is no directory; make it, or name another file.",
    )
    given = [name for name in cli.given(*NAMES).values() if not name.startswith(HUB)]
    read = [user_path(name).resolve() for name in given]
    check(
        path.resolve() not in read and not (path.exists() and holds_images(path)),
        f"--store: {name} holds what is measured or other images, expected a new file or one of "
        "statistics; name another.",
    )
    check_writable(path)
    return path


def _describe(source: SetSource, found: SetStatistics) -> dict[str, Any]:
    """What a report says of a set; the number of images is that of the features."""
    about: dict[str, Any] = {"source": source.name, "sha256": source.digest()}
    if found.size is not None:
        about |= {"height": found.size[0], "width": found.size[1]}
    return about if found.features is None else about | {"images": len(found.features)}
