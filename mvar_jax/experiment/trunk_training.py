"""The training of a trunk on the tokens of a tokenizer, from a config and a working directory.

It runs on the mesh of the config, over all devices of all processes.
"""

from functools import partial

import jax
import numpy as np
import optax
from absl import logging

from mvar_jax.array_types import Params, PyTree, in_32_bits, path_name
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.convert.text_encoder import open_text_encoder
from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.pipeline import load_examples, same
from mvar_jax.data.token_source import TokenSource
from mvar_jax.experiment.pictures import (
    ROWS,
    Shown,
    classes_shown,
    trunk_pictures,
)
from mvar_jax.experiment.run_start import check_init, save_start
from mvar_jax.experiment.training_data import (
    caption_encoder,
    check_tokens,
    make_data,
    make_layout,
    with_classes,
)
from mvar_jax.mesh.processes import on_first_process
from mvar_jax.models import build_trunk
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.models.flops import TRAINING_FACTOR, matmul_flops
from mvar_jax.sampling import Sampler
from mvar_jax.sampling.asked import text_features
from mvar_jax.training.loop import InitialState, Outcome, Programs, Run, fit
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.parameters import save_placed
from mvar_jax.training.state import new_state, state_shapes
from mvar_jax.training.step import (
    Frozen,
    make_trunk_evaluation,
    make_trunk_step,
)
from mvar_jax.training.stored import check_is_run
from mvar_jax.training.throughput import StepCost
from mvar_jax.training.weights import (
    check_learned_from,
    init_tokenizer,
    init_trunk,
    load_tokenizer,
    load_trunk,
    trunk_shapes,
)
from mvar_jax.workdir import RunRecord, Workdir


@in_32_bits
def train_trunk(
    config: Config,
    workdir: Workdir,
    *,
    init: Workdir | None = None,
    tokenizer_from: Workdir | None = None,
) -> Outcome:
    """Trains the trunk in `workdir` on the tokens of its tokenizer, or goes on with it.

    With `init`, a new run starts from that run's trunk instead of from random parameters. Where
    `workdir` has no tokenizer yet, that of `tokenizer_from`, or else of `init`, is copied to it.
    Raises ValueError for bad data, a missing or other tokenizer, another config than the run was
    started with, and damaged checkpoints.
    """
    for run in (tokenizer_from, workdir):  # before the data, which may take long to prepare
        if run is not None and run.tokenizer.is_trained:
            run.check_tokenizer_settings(config)
    source = load_examples(config.data, config.tokenizer.image_size)
    config = with_classes(config, source)
    training = config.training
    mesh, layout = make_layout(config, training)
    encode = caption_encoder(config) if config.data.captions else same
    data = make_data(config, layout, training.accumulate, source=source, encode=encode)
    steps = training.total_steps(len(source), config.batch_size)
    optimizer = make_optimizer(config.optimizer, steps, config.batch_size)
    lender = None if workdir.tokenizer.is_trained else tokenizer_from or init
    check_init("--tokenizer", tokenizer_from, workdir.tokenizer)
    check_init("--init", init, workdir)
    check_is_run(workdir.checkpoints)
    workdir.check_same(config)
    workdir.check_same_classes(source.class_names)
    if lender is not None:
        workdir.check_adopts(lender)

    with jax.set_mesh(mesh):
        frozen = Frozen(_tokenizer_params(config, workdir, lender))
        names = tokenizer_names(frozen.tokenizer)
        record = RunRecord(steps, names[0])
        for run in (workdir, init):
            if run is not None:
                place = (lender or workdir).tokenizer.path
                check_learned_from(run, lambda: frozen.tokenizer, place)
        check_tokens(config, names, source.class_names)
        return fit(
            Run(
                label="trunk",
                directory=workdir.path,
                config=training,
                total_steps=steps,
                cost=_step_cost(config),
            ),
            _trunk_programs(config, optimizer, frozen, shown=_shown(config, source)),
            data,
            initial=_initial_trunk(
                config,
                optimizer,
                init=None if workdir.is_trained else init,
                class_names=source.class_names,
            ),
            begin=partial(
                _begin_trunk,
                config,
                workdir,
                lender,
                frozen=frozen,
                class_names=source.class_names,
                record=record,
            ),
        )


def _trunk_programs(
    config: Config,
    optimizer: optax.GradientTransformation,
    frozen: Frozen,
    *,
    shown: Shown,
) -> Programs:
    """The programs of the trunk's training, with their frozen inputs."""
    sampler = Sampler.of(config)
    trunk, tokenizer = sampler.trunk, sampler.tokenizer
    step = make_trunk_step(
        trunk,
        tokenizer,
        optimizer,
        config=config.training,
        seed=config.seed,
        schedules=config.schedules,
    )
    return Programs(
        partial(step, frozen=frozen),
        partial(make_trunk_evaluation(trunk, tokenizer), frozen=frozen),
        partial(trunk_pictures(config, sampler, shown), frozen=frozen),
    )


def _shown(config: Config, source: TokenSource | ImageSource) -> Shown:
    """What a run's pictures are of: classes spread over all, or the captions of some images."""
    if not config.data.captions:
        return classes_shown(source.class_names)
    encoder = open_text_encoder(config.data.text_encoder)
    captions = [source[index]["caption"] for index in range(min(ROWS, len(source)))]
    return Shown(text_features(captions, encoder, config.model.text), tuple(captions))


def _initial_trunk(
    config: Config,
    optimizer: optax.GradientTransformation,
    *,
    init: Workdir | None,
    class_names: tuple[str, ...],
) -> InitialState:
    """The state that a trunk's training starts from: another run's trunk, or random parameters.

    Raises ValueError when that run's trunk is of another architecture.
    """
    ema_decay = config.training.ema_decay
    inherited = None if init is None else inherit_trunk(config, init, class_names)

    def create():
        params = init_trunk(config) if inherited is None else inherited
        return new_state(params, optimizer, ema_decay)

    return InitialState(state_shapes(trunk_shapes(config), optimizer, ema_decay), create)


def _begin_trunk(
    config: Config,
    workdir: Workdir,
    lender: Workdir | None,
    *,
    frozen: Frozen,
    class_names: tuple[str, ...],
    record: RunRecord,
) -> None:
    """Writes what a run of the trunk needs besides its checkpoints; called by all processes."""
    untrained = lender is None and not workdir.tokenizer.is_trained

    def write():
        save_start(workdir, config, record)
        if class_names:
            workdir.save_class_names(class_names)
        if lender is not None:
            workdir.adopt_tokenizer(lender)
        elif untrained:
            workdir.tokenizer.save_config(config)

    on_first_process(write)
    if untrained:
        save_placed(workdir.tokenizer.checkpoints, frozen.tokenizer)


def inherit_trunk(config: Config, init: Workdir, class_names: tuple[str, ...]) -> Params:
    """Another run's trunk as the start of a new one.

    "No class" keeps its embedding, and so does every class whose name that run knew too. Raises
    ValueError when it is of another architecture.
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
    if config.model.condition == "text":  # which has no classes
        return params
    before = init.class_names(init.config().model.num_classes)
    unnamed = not init.names_classes and len(before) == len(class_names)  # as imported weights
    if before != class_names and not unnamed:
        rows = {name: row for row, name in enumerate((*before, None))}  # None: no class
        kept = [(new, rows[name]) for new, name in enumerate((*class_names, None)) if name in rows]
        new, old = map(np.array, zip(*kept))
        fresh = init_trunk(config)["class_embedding"]
        params["class_embedding"] = fresh.at[new].set(params["class_embedding"][old])
    return params


def _find(tree: Params, path: tuple) -> jax.Array | None:
    """The array at a path, None where there is none."""
    found: PyTree = tree
    for key in path:
        found = found.get(key.key) if isinstance(found, dict) else None
    return found


def _tokenizer_params(config: Config, workdir: Workdir, lender: Workdir | None) -> Params:
    source = lender or workdir
    if source.tokenizer.is_trained:
        if not config.allow_untrained_tokenizer:
            source.tokenizer.check_finished()
        return load_tokenizer(config, source)
    check(
        config.allow_untrained_tokenizer and lender is None,
        f"{source.tokenizer.path}: holds no trained tokenizer; train one with "
        "python -m mvar_jax.train_tokenizer and the same --config and --workdir, or name another "
        "run's by --tokenizer.",
    )
    logging.warning("No trained tokenizer: the trunk learns the tokens of a random one.")
    return init_tokenizer(config)


def _step_cost(config: Config) -> StepCost:
    """What one step of the trunk's training takes in."""
    tokenizer = config.tokenizer
    flops = matmul_flops(config.model, tokenizer.schedule, build_trunk(config).logits)
    return StepCost(config.batch_size, TRAINING_FACTOR * flops * config.batch_size)
