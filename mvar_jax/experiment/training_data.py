"""The data of the two trainings: checks of the examples, and global batches on the mesh."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from absl import logging
from jax.sharding import Mesh

from mvar_jax.array_types import Example
from mvar_jax.checks import check
from mvar_jax.config import Config, TrainingConfig
from mvar_jax.convert.text_encoder import open_text_encoder
from mvar_jax.data.aspect_batches import AspectBatches, by_aspect
from mvar_jax.data.global_batches import GlobalBatches, GlobalEvaluation
from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.pipeline import (
    Encode,
    eval_records,
    eval_token_records,
    same,
    train_batches,
)
from mvar_jax.data.source import FOLDER
from mvar_jax.data.token_source import TokenSource
from mvar_jax.mesh.processes import announce, on_first_process
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.sampling.asked import text_features
from mvar_jax.text.feature_file import StoredFeatures
from mvar_jax.training.loop import Data

LONG_CAPTION = "data: captions of more than %d tokens are cut to the first ones, such as %.60r."


def with_classes(config: Config, source: TokenSource | ImageSource) -> Config:
    """The config with the number of classes that the data has; of texts there are none.

    An adapter brings the classes of its data, whatever the config says. Otherwise raises ValueError
    for another number, and for data without what the model is conditioned on.
    """
    text = config.model.condition == "text"
    check(
        text == config.data.captions,
        f"data.captions: got {config.data.captions} for a model of condition "
        f"{config.model.condition!r}, expected {text}; set --config.data.captions={text}.",
    )
    if text:
        return config
    found = source.num_classes
    check(
        config.model.num_classes in (0, found) or config.adapter.rank > 0,
        f"model.num_classes: got {config.model.num_classes}, but "
        f"{config.data.tokens or config.data.name} has {found} classes; set "
        f"--config.model.num_classes={found}.",
    )
    return replace(config, model=replace(config.model, num_classes=found))


def check_tokens(config: Config, tokenizer: tuple[str, ...], class_names: tuple[str, ...]) -> None:
    """Checks that tokens to train and to validate on are whole, and of this tokenizer and data.

    The tokenizer is given by its names.
    """
    directories = [path for path in (config.data.tokens, config.data.validation_tokens) if path]
    if not directories:
        return

    def check_all():
        for source in map(TokenSource, directories):
            source.check(config.tokenizer, tokenizer)
            check(
                source.class_names == class_names,
                f"{source.directory}: has other classes than the training data "
                f"({len(source.class_names)} and {len(class_names)}), or in another order; make "
                "the tokens of both splits from one dataset.",
            )

    on_first_process(check_all)


def _read_training(
    config: Config, rows: np.ndarray, source: TokenSource | ImageSource, encode: Encode
) -> Callable[[int], Iterable]:
    """What reads this process's rows of the training batches from a number on."""
    sizes = list(config.schedules)
    sources: Sequence[TokenSource | ImageSource] = [source]
    if config.data.aspects:
        assert isinstance(source, ImageSource)
        sources = by_aspect(source, [height / width for height, width in sizes])

    def read_one(number, first):
        return train_batches(
            config.data,
            sizes[number],
            config.batch_size,
            seed=config.seed,
            source=sources[number],
            rows=rows,
            first=first,
            encode=encode,
        )

    if len(sources) == 1:
        return partial(read_one, 0)
    counts = [len(each) for each in sources]
    return lambda first: AspectBatches(
        read_one, counts, config.batch_size, seed=config.seed, first=first
    )


def make_layout(config: Config, training: TrainingConfig) -> tuple[Mesh, BatchLayout]:
    """The mesh of the config, which must divide the batch; says what devices there are."""
    mesh = make_mesh(config.mesh)
    layout = BatchLayout(mesh)
    layout.check_batch(config.batch_size, training.accumulate)
    announce(mesh)
    return mesh, layout


def caption_encoder(config: Config) -> Encode:
    """What turns an example's caption into the features of a text and their mask.

    They are padded to the most tokens that the model reads, or cut to them, of which a warning
    tells once. Raises ValueError for an encoder that cannot be opened or gives features of another
    width, and for stored features where captions are chosen at random.
    """
    check(
        config.data.text_encoder != "",
        "data.text_encoder: got none for the captions, expected the folder of a T5, features that "
        "python -m mvar_jax.encode_text wrote, or wordllama.",
    )
    encoder, text = open_text_encoder(config.data.text_encoder), config.model.text
    check(
        not (config.data.short_caption_rate and isinstance(encoder, StoredFeatures)),
        f"data.text_encoder: {config.data.text_encoder} holds the features of whole captions, but "
        f"data.short_caption_rate {config.data.short_caption_rate} takes parts of them; set it to "
        "0, or name an encoder.",
    )

    def encode(example: Example) -> Example:
        made = encoder.encode([example["caption"]])
        if int(made.lengths[0]) > text.max_length:
            logging.log_first_n(
                logging.WARNING, LONG_CAPTION, 1, text.max_length, example["caption"]
            )
        features = text_features(made.cut(text.max_length), None, text).padded(text.max_length)
        rest = {name: value for name, value in example.items() if name != "caption"}
        return rest | {"features": features.features[0], "mask": features.mask[0]}

    return encode


def without_captions(example: Example) -> Example:
    """An example of captioned data, for the training of a tokenizer."""
    return {name: value for name, value in example.items() if name != "caption"}


def make_data(
    config: Config,
    layout: BatchLayout,
    parts: int,
    *,
    source: TokenSource | ImageSource,
    encode: Encode = same,
) -> Data:
    """Batches of both splits, of which every process reads the rows that its devices hold.

    `source` are the examples to train on, as `load_examples` gives them, `encode` is as in
    `data.pipeline.train_batches`. Batches to evaluate on have the size of one of the parts that
    training batches are computed in.
    """
    data, size, batch_size = config.data, config.tokenizer.image_size, config.batch_size
    read = _read_training(config, layout.rows(batch_size), source, encode)
    batches = GlobalBatches(read, partial(layout.place, size=batch_size))
    check(
        not data.tokens or bool(data.validation_tokens or data.directory) or data.name != FOLDER,
        "data.validation_tokens: got none, so that validation reads images, but data.directory "
        "names none either; set one of them.",
    )
    if data.validation_tokens:
        records = eval_token_records(data)
    else:
        records = eval_records(data, size, data.validation_split, encode)
    return Data(batches, GlobalEvaluation(records, batch_size // parts, data, layout=layout))
