"""A run's model as a folder to share: safetensors, config, class names, and a card about it."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from mvar_jax.array_types import Leaf, Params
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.config.tree import to_json
from mvar_jax.convert.model_card import model_card
from mvar_jax.convert.text_encoder import WORDS
from mvar_jax.files import HUB, draft_folder, local_copy, publish
from mvar_jax.hub.address import check_repository
from mvar_jax.models.checksum import checksum, tokenizer_names
from mvar_jax.training.adapted import check_is_whole
from mvar_jax.training.shared import save_shared, shared_bytes
from mvar_jax.training.weights import check_learned_from, load_tokenizer, load_trunk
from mvar_jax.workdir import WEIGHTS, Workdir

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*", re.ASCII)  # as the Hub writes them
CARD, PICTURE = "README.md", "samples.png"


@dataclass(frozen=True)
class SharedModel:
    """What a shared folder holds, by the files' names.

    It is a working directory: `load` takes it as it is.
    """

    texts: Mapping[str, str]
    pictures: Mapping[str, Path]  # files to copy
    weights: Mapping[str, Params]

    def sizes(self) -> dict[str, int]:
        """The files with their sizes in bytes."""
        texts = {name: len(text.encode()) for name, text in self.texts.items()}
        pictures = {name: local_copy(file).stat().st_size for name, file in self.pictures.items()}
        weights = {name: shared_bytes(params) for name, params in self.weights.items()}
        return texts | pictures | weights

    def write(self, out: Path) -> None:
        """Writes the folder, whole or not at all."""
        with draft_folder(out) as draft:
            (draft / "tokenizer").mkdir(parents=True)
            for name, text in self.texts.items():
                (draft / name).write_text(text, encoding="utf-8")
            for name, file in self.pictures.items():
                shutil.copyfile(local_copy(file), draft / name)
            for name, params in self.weights.items():
                save_shared(draft / name, params)
            publish(draft, out)


def shared_model(
    workdir: Workdir,
    *,
    repository: str,
    license_name: str,
    dtype: str = "float32",
    verify: bool = False,
) -> SharedModel:
    """The model of a working directory, to be shared as `repository`; nothing is written.

    Weights are those that are sampled from, in `dtype`, "float32" or "bfloat16". The config names
    no folders and projects of its owner. Raises ValueError for a repository or a licence that is
    none, for an adapter, and as `load_trunk` and `load_tokenizer` do.
    """
    check_repository(repository)
    check(
        bool(LICENSE.fullmatch(license_name)),
        f"--license: got {license_name!r}, expected a licence as the Hub names them, such as "
        "apache-2.0, mit, cc-by-nc-4.0 or other.",
    )
    check_is_whole(workdir)
    config = workdir.config()
    trunk = load_trunk(config, workdir, verify=verify)
    tokenizer = load_tokenizer(config, workdir, verify=verify)
    check_learned_from(workdir, lambda: tokenizer, workdir.tokenizer.path)
    cast = partial(jax.tree.map, partial(_cast, dtype=jax.numpy.dtype(dtype)))
    weights = {WEIGHTS: cast(trunk), f"tokenizer/{WEIGHTS}": cast(tokenizer)}
    names = {name: checksum(params) for name, params in weights.items()}
    learned = tokenizer_names(weights[f"tokenizer/{WEIGHTS}"])[0]
    classes = workdir.class_names(config.model.num_classes) if workdir.names_classes else ()
    pictures = _pictures(workdir.path)
    card = model_card(
        workdir,
        public_config(config),
        repository=repository,
        license_name=license_name,
        class_names=classes,
        picture=next(iter(pictures), None),
        weights=names,
    )
    texts = {CARD: card, **_texts(workdir, learned), **_texts(workdir.tokenizer, "", "tokenizer/")}
    return SharedModel(texts, pictures, weights)


def public_config(config: Config) -> Config:
    """The config without the folders and projects of who trained it, which sampling needs not.

    A text encoder that others have too, that of a package or of the Hub, stays named.
    """
    encoder = config.data.text_encoder
    known = encoder == WORDS or encoder.startswith(HUB)
    data = replace(
        config.data,
        directory="",
        tokens="",
        validation_tokens="",
        text_encoder=encoder if known else "",
    )
    training, tokenizer = (
        replace(each, wandb="") for each in (config.training, config.tokenizer_training)
    )
    return replace(config, data=data, training=training, tokenizer_training=tokenizer)


def _texts(workdir: Workdir, learned: str, folder: str = "") -> dict[str, str]:
    """The files of text of one half, trunk or tokenizer, below `folder`.

    `learned` is the checksum of the tokenizer as it is shared, of which a trunk keeps the tokens.
    """
    texts = {"config.json": to_json(public_config(workdir.config()))}
    record = workdir.record()
    if record is not None:
        texts["run.json"] = replace(record, total_steps=0, tokenizer=learned).to_json()
    if workdir.names_classes:
        texts["classes.json"] = (workdir.path / "classes.json").read_text(encoding="utf-8")
    return {f"{folder}{name}": text for name, text in texts.items()}


def _pictures(folder: Path) -> dict[str, Path]:
    """The samples that a program drew last, or that the training did."""
    training = folder / "samples"
    steps = [int(file.stem) for file in training.glob("*.png") if file.stem.isdigit()]
    drawn = [folder / PICTURE, *(training / f"{step}.png" for step in sorted(steps)[-1:])]
    found = [file for file in drawn if file.is_file()]
    return {PICTURE: found[0]} if found else {}


def _cast(leaf: Leaf, dtype: np.dtype) -> np.ndarray:
    return np.asarray(leaf).astype(dtype)
