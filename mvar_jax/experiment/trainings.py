"""The two trainings of an experiment, from a config and a working directory.

They run on the mesh of the config, over all devices of all processes.
"""

from dataclasses import replace
from functools import partial

import jax
from absl import logging

from mvar_jax.array_types import Params, path_name
from mvar_jax.checks import check
from mvar_jax.config import Config, TrainingConfig
from mvar_jax.data.global_batches import GlobalBatches, GlobalEvaluation
from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.pipeline import eval_records, eval_token_records, train_batches
from mvar_jax.data.source import FOLDER, load_source
from mvar_jax.data.token_source import TokenSource
from mvar_jax.experiment.pictures import tokenizer_pictures, trunk_pictures
from mvar_jax.mesh.processes import announce, on_first_process
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models import build_trunk
from mvar_jax.models.flops import TRAINING_FACTOR, matmul_flops
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.tokenizers.checksum import checksum
from mvar_jax.training.loop import Outcome, fit
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.parameters import save_placed
from mvar_jax.training.placement import new_state, state_shapes
from mvar_jax.training.step import (
    make_tokenizer_evaluation,
    make_tokenizer_step,
    make_trunk_evaluation,
    make_trunk_step,
)
from mvar_jax.training.stored import check_is_run
from mvar_jax.training.throughput import StepCost
from mvar_jax.training.weights import (
    init_tokenizer,
    init_trunk,
    load_tokenizer,
    load_trunk,
    tokenizer_shapes,
    trunk_shapes,
)
from mvar_jax.workdir import Workdir


def train_tokenizer(config: Config, workdir: Workdir) -> Outcome:
    """Trains the tokenizer in `workdir.tokenizer`, or goes on with it.

    Raises ValueError for bad data, another config than the run was begun with, and damaged
    checkpoints.
    """
    config = replace(config, data=replace(config.data, tokens="", validation_tokens=""))
    source = load_source(config.data.name, config.data.train_split, config.data.directory)
    training = config.tokenizer_training
    layout = _layout(config, training)
    batches, validation = _data(config, layout, training.accumulate)
    steps = training.total_steps(len(source), config.batch_size)
    tokenizer = VQTokenizer(config.tokenizer)
    optimizer = make_optimizer(config.tokenizer_optimizer, steps, config.batch_size)
    check_is_run(workdir.tokenizer.checkpoints)
    workdir.tokenizer.check_same(config)

    with jax.set_mesh(layout.mesh):
        return fit(
            "tokenizer",
            state_shapes(tokenizer_shapes(config), optimizer, training.ema_decay),
            lambda: new_state(init_tokenizer(config), optimizer, training.ema_decay),
            make_tokenizer_step(tokenizer, optimizer, training),
            make_tokenizer_evaluation(tokenizer),
            batches,
            validation,
            training,
            steps,
            workdir.tokenizer.path,
            StepCost(config.batch_size),
            begin=lambda: on_first_process(partial(workdir.tokenizer.save_config, config)),
            draw=tokenizer_pictures(tokenizer, validation),
        )


def train_trunk(
    config: Config,
    workdir: Workdir,
    init: Workdir | None = None,
    tokenizer_from: Workdir | None = None,
) -> Outcome:
    """Trains the trunk in `workdir` on the tokens of its tokenizer, or goes on with it.

    With `init`, a new run starts from that run's trunk instead of from chance. Where `workdir`
    has no tokenizer yet, that of `tokenizer_from`, or else of `init`, is copied to it. Raises
    ValueError for bad data, a missing or other tokenizer, another config than the run was begun
    with, and damaged checkpoints.
    """
    source = _examples(config)
    config = _with_classes(config, source)
    layout = _layout(config, config.training)
    batches, validation = _data(config, layout, config.training.accumulate)
    steps = config.training.total_steps(len(source), config.batch_size)
    tokenizer, trunk = VQTokenizer(config.tokenizer), build_trunk(config)
    trained = workdir.tokenizer.is_trained
    lender = None if trained else tokenizer_from or init
    fresh = init is None or workdir.is_trained
    optimizer = make_optimizer(config.optimizer, steps, config.batch_size)

    check_is_run(workdir.checkpoints)
    workdir.check_same(config)
    if lender is not None:
        workdir.check_adopts(lender)

    def write():
        workdir.save_config(config)
        workdir.save_class_names(source.class_names)
        if lender is not None:
            workdir.adopt_tokenizer(lender)
        elif not trained:
            workdir.tokenizer.save_config(config)

    def begin():
        on_first_process(write)
        if not trained and lender is None:
            save_placed(workdir.tokenizer.checkpoints, tokenizer_params)

    with jax.set_mesh(layout.mesh):
        tokenizer_params = _tokenizer_params(config, workdir, lender)
        _check_tokens(config, tokenizer_params, source.class_names)
        inherited = None if fresh else inherit_trunk(config, init)

        def start():
            params = init_trunk(config) if inherited is None else inherited
            return new_state(params, optimizer, config.training.ema_decay)

        return fit(
            "trunk",
            state_shapes(trunk_shapes(config), optimizer, config.training.ema_decay),
            start,
            make_trunk_step(trunk, tokenizer, optimizer, config.training, config.seed),
            make_trunk_evaluation(trunk, tokenizer),
            batches,
            validation,
            config.training,
            steps,
            workdir.path,
            _step_cost(config),
            frozen=(tokenizer_params,),
            begin=begin,
            draw=trunk_pictures(config, trunk, tokenizer, source.class_names),
        )


def inherit_trunk(config: Config, init: Workdir) -> Params:
    """Another run's trunk as the start of a new one.

    Of another number of classes, only "no class" keeps its embedding. Raises ValueError when it
    is of another architecture.
    """
    params = load_trunk(init.config(), init)
    expected = trunk_shapes(config)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        name = path_name(path)
        found = _find(params, path)
        check(
            name == "class_embedding" or getattr(found, "shape", None) == leaf.shape,
            f"--init: {init.path} has {name} of shape {getattr(found, 'shape', None)}, expected "
            f"{leaf.shape}; set config.model and config.tokenizer as in its config.json.",
        )
    if params["class_embedding"].shape != expected["class_embedding"].shape:
        fresh = init_trunk(config)["class_embedding"]
        params["class_embedding"] = fresh.at[-1].set(params["class_embedding"][-1])
    return params


def _find(tree: Params, path: tuple) -> jax.Array | None:
    """The array at a path, None where there is none."""
    for key in path:
        tree = tree.get(key.key) if isinstance(tree, dict) else None
    return tree


def _tokenizer_params(config: Config, workdir: Workdir, lender: Workdir | None) -> Params:
    source = lender or workdir
    if source.tokenizer.is_trained:
        return load_tokenizer(config, source)
    check(
        config.allow_untrained_tokenizer and lender is None,
        f"{source.tokenizer.path}: holds no trained tokenizer; train one with "
        "python -m mvar_jax.train_tokenizer and the same --config and --workdir, or name another "
        "run's by --tokenizer.",
    )
    logging.warning("No trained tokenizer: the trunk learns the tokens of a random one.")
    return init_tokenizer(config)


def _examples(config: Config):
    """What the trunk trains on: images or their tokens, by index."""
    if config.data.tokens:
        return TokenSource(config.data.tokens)
    return load_source(config.data.name, config.data.train_split, config.data.directory)


def _with_classes(config: Config, source: TokenSource | ImageSource) -> Config:
    """The config with the number of classes that the data has. Raises ValueError for another."""
    found = source.num_classes
    check(
        config.model.num_classes in (0, found),
        f"model.num_classes: got {config.model.num_classes}, but "
        f"{config.data.tokens or config.data.name} has {found} classes; set "
        f"--config.model.num_classes={found}.",
    )
    return replace(config, model=replace(config.model, num_classes=found))


def _check_tokens(config: Config, tokenizer_params: Params, class_names: tuple[str, ...]) -> None:
    """Checks that tokens to train and to validate on are whole, and of this tokenizer and data."""
    directories = [path for path in (config.data.tokens, config.data.validation_tokens) if path]
    if not directories:
        return
    name = checksum(tokenizer_params)  # by all processes, which hold the parameters together

    def check_all():
        for source in map(TokenSource, directories):
            source.check(config.tokenizer, name)
            check(
                source.class_names == class_names,
                f"{source.directory}: has other classes than the training data "
                f"({len(source.class_names)} and {len(class_names)}), or in another order; make "
                "the tokens of both splits from one dataset.",
            )

    on_first_process(check_all)


def _layout(config: Config, training: TrainingConfig) -> BatchLayout:
    """The mesh of the config, which must divide the batch; says what devices there are."""
    layout = BatchLayout(make_mesh(config.mesh))
    layout.check_batch(config.batch_size, training.accumulate)
    announce(layout.mesh)
    return layout


def _data(
    config: Config, layout: BatchLayout, parts: int
) -> tuple[GlobalBatches, GlobalEvaluation]:
    """Batches of both splits, of which every process reads the rows that its devices hold.

    Those to evaluate on have the size of one of the parts that training batches are computed in.
    """
    data, size, batch_size = config.data, config.tokenizer.image_size, config.batch_size
    rows = layout.rows(batch_size)
    batches = GlobalBatches(
        lambda first: train_batches(data, size, batch_size, config.seed, rows, first),
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
    return batches, GlobalEvaluation(records, batch_size // parts, data, layout)


def _step_cost(config: Config) -> StepCost:
    """What one step of the trunk's training takes in."""
    tokenizer = config.tokenizer
    flops = matmul_flops(config.model, tokenizer.schedule, tokenizer.vocabulary)
    return StepCost(config.batch_size, TRAINING_FACTOR * flops * config.batch_size)
