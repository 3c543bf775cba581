"""The data of the two trainings: examples, checks of them, and global batches on the mesh."""

from dataclasses import replace
from functools import partial

from jax.sharding import Mesh

from mvar_jax.checks import check
from mvar_jax.config import Config, TrainingConfig
from mvar_jax.data.global_batches import GlobalBatches, GlobalEvaluation
from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.pipeline import eval_records, eval_token_records, train_batches
from mvar_jax.data.source import FOLDER, load_source
from mvar_jax.data.token_source import TokenSource
from mvar_jax.mesh.processes import announce, on_first_process
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.training.loop import Data


def load_examples(config: Config) -> TokenSource | ImageSource:
    """The training data of the trunk: images or their tokens, by index."""
    if config.data.tokens:
        return TokenSource(config.data.tokens)
    return load_source(config.data.name, config.data.train_split, config.data.directory)


def with_classes(config: Config, source: TokenSource | ImageSource) -> Config:
    """The config with the number of classes that the data has. Raises ValueError for another."""
    found = source.num_classes
    check(
        config.model.num_classes in (0, found),
        f"model.num_classes: got {config.model.num_classes}, but "
        f"{config.data.tokens or config.data.name} has {found} classes; set "
        f"--config.model.num_classes={found}.",
    )
    return replace(config, model=replace(config.model, num_classes=found))


def check_tokens(config: Config, tokenizer: str, class_names: tuple[str, ...]) -> None:
    """Checks that tokens to train and to validate on are whole, and of this tokenizer and data.

    The tokenizer is given by its checksum.
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


def make_layout(config: Config, training: TrainingConfig) -> tuple[Mesh, BatchLayout]:
    """The mesh of the config, which must divide the batch; says what devices there are."""
    mesh = make_mesh(config.mesh)
    layout = BatchLayout(mesh)
    layout.check_batch(config.batch_size, training.accumulate)
    announce(mesh)
    return mesh, layout


def make_data(config: Config, layout: BatchLayout, parts: int) -> Data:
    """Batches of both splits, of which every process reads the rows that its devices hold.

    Those to evaluate on have the size of one of the parts that training batches are computed in.
    """
    data, size, batch_size = config.data, config.tokenizer.image_size, config.batch_size
    rows = layout.rows(batch_size)
    batches = GlobalBatches(
        lambda first: train_batches(
            data, size, batch_size, seed=config.seed, rows=rows, first=first
        ),
        partial(layout.place, size=batch_size),
    )
    check(
        not data.tokens or bool(data.validation_tokens or data.directory) or data.name != FOLDER,
        "data.validation_tokens: got none, so that validation reads images, but data.directory "
        "names none either; set one of them.",
    )
    if data.validation_tokens:
        records = eval_token_records(data)
    else:
        records = eval_records(data, size, data.validation_split)
    return Data(batches, GlobalEvaluation(records, batch_size // parts, data, layout=layout))
