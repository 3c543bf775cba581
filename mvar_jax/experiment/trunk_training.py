"""The training of a trunk on the tokens of a tokenizer, from a config and a working directory.

It runs on the mesh of the config, over all devices of all processes.
"""

from dataclasses import replace
from functools import partial

import jax
import optax
from absl import logging

from mvar_jax.array_types import Params, in_32_bits
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
from mvar_jax.experiment.starting_weights import find_start, inherit_trunk, load_base
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
    adapter_shapes,
    check_learned_from,
    init_adapter,
    init_tokenizer,
    init_trunk,
    load_tokenizer,
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
    base: Workdir | None = None,
) -> Outcome:
    """Trains the trunk in `workdir` on the tokens of its tokenizer, or goes on with it.

    With `init`, a new run starts from that run's trunk instead of from random parameters. Where
    `workdir` has no tokenizer yet, that of `tokenizer_from`, or else of `init`, is copied to it.
    If the config has an adapter, `workdir` gets that alone: trunk and tokenizer are those of
    `base`, by default the one that the run began with. Raises ValueError for bad data, a missing or
    other tokenizer or base, another config than the run was started with, and damaged checkpoints.
    """
    base = find_start(config, workdir, base)
    for run in (tokenizer_from, base, workdir):  # before the data, which may take long to prepare
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
    lender = None if workdir.tokenizer.is_trained else tokenizer_from or init or base
    check(init is None or base is None, "--init: an adapter starts from --base; leave it out.")
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
        for run in (workdir, init, base):
            if run is not None:
                place = (lender or workdir).tokenizer.path
                check_learned_from(run, lambda: frozen.tokenizer, place)
        check_tokens(config, names, source.class_names)
        if base is not None:
            start = load_base(base, workdir, source.class_names)
            frozen = replace(frozen, base=start.params, strength=config.adapter.strength)
            record = replace(record, base=base.name, base_checksum=start.checksum)
        return fit(
            Run(
                label="trunk" if base is None else "adapter",
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
    """The state that training starts from: a new adapter, another run's trunk, or a random one.

    Raises ValueError when that run's trunk is of another architecture.
    """
    ema_decay = config.training.ema_decay
    if config.adapter.rank:
        shapes = state_shapes(adapter_shapes(config), optimizer, ema_decay)
        return InitialState(shapes, lambda: new_state(init_adapter(config), optimizer, ema_decay))
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
        if lender is not None and not config.adapter.rank:
            workdir.adopt_tokenizer(lender)
        elif untrained:
            workdir.tokenizer.save_config(config)

    on_first_process(write)
    if untrained:
        save_placed(workdir.tokenizer.checkpoints, frozen.tokenizer)


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
