"""VAR and M-VAR of a reference file, and everything that is stored of their computation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mvar_jax.config import OptimizerConfig, SamplingConfig
from mvar_jax.convert.trunk_names import trunk_entries, trunk_params
from mvar_jax.models import ClassLabels, Trunk
from mvar_jax.models.context import ScaleContext
from mvar_jax.sampling import Filters, Request, Sampler, Weights, generate_scales
from mvar_jax.training.losses import trunk_loss
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import apply_gradients, create_state
from tests.conformance_checks.tokenizer import (
    gradient_norms,
    load_tokenizer,
    reference_images,
    to_official,
)
from tests.models.weights import official_arrays, trunk_config
from tests.reference import ReferenceFile

# Names of arrays tell the settings: 1.5 is written 1p5.
GREEDY = re.compile(r"(cfg(\d+p\d+))_")  # guidance
SMOOTH = re.compile(r"(smooth(?:k(\d+)p(\d+p\d+))?)_(?!noise)")  # top-k and top-p
SMOOTH_GUIDANCE = 4.0
SMOOTHED_LOSS = re.compile(r"(loss_ls(\d+p\d+))")  # label smoothing
STEPS = 2


def compute(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Every array that the library has a meaning for, by its stored name."""
    trunk, tokenizer, params = load_models(file)
    labels = jnp.asarray(file.config["labels"], jnp.int32)
    inputs, targets = training_pair(file, tokenizer, params["tokenizer"])
    run = Run(file, trunk, tokenizer, params, labels)
    return {
        "labels": labels,
        "gt_idx": targets,
        "teacher_input": inputs,
        **_layout(trunk),
        **_teacher_forced(trunk, params["trunk"], labels, inputs),
        **run.greedy(),
        **run.smooth(),
        **_training(file, trunk, tokenizer, params["trunk"], (labels, inputs, targets)),
    }


def load_models(file: ReferenceFile):
    """The trunk and the tokenizer that a file describes, and the parameters of both."""
    tokenizer, tokenizer_weights = load_tokenizer(file, file.tokenizer_config)
    space = tokenizer.config
    trunk = Trunk(
        trunk_config(file.config), tokenizer.schedule, space.vocabulary, space.code_channels
    )
    weights = trunk_params(file.weights(trunk_entries(trunk)), trunk)
    return (
        trunk,
        tokenizer,
        {"trunk": jax.tree.map(jnp.asarray, weights), "tokenizer": tokenizer_weights},
    )


def training_pair(file: ReferenceFile, tokenizer, params):
    """Teacher-forcing inputs and tokens of the file's images."""
    images = jnp.asarray(reference_images(file, file.tokenizer_config))

    @jax.jit
    def encode(params):
        bound = tokenizer.bind({"params": params})
        return bound.training_pair(bound.encode(images))

    return encode(params)


def settings(file: ReferenceFile, pattern: re.Pattern) -> dict[str, list[float]]:
    """What names of arrays tell: the part that names a run, and the numbers in it."""
    found = filter(None, map(pattern.match, file.arrays))
    return {
        name: [float((x or "0").replace("p", ".")) for x in rest]
        for name, *rest in (match.groups() for match in found)
    }


def _layout(trunk) -> dict[str, np.ndarray]:
    """The level of every token, and what the original's mask lets it see."""
    schedule, reach = trunk.schedule, trunk.config.kinds[0].attention_reach
    levels = np.repeat(np.arange(len(schedule), dtype=np.int32), schedule.lengths)
    query, key = levels[:, None], levels[None]
    seen = key <= query if reach == "history" else key == query
    mask = np.where(seen, np.float32(0), np.float32(-np.inf))
    return {"lvl_1L": levels[None], "attn_bias_for_masking": mask[None, None]}


def _teacher_forced(trunk, params, labels, inputs) -> dict[str, np.ndarray]:
    @jax.jit
    def hidden(params):
        bound = trunk.bind({"params": params})
        conditioning = bound.prepare(ClassLabels(labels))
        context = ScaleContext(trunk.schedule)
        x = bound._embed(conditioning, inputs, context)
        states = [x]
        for layer in range(trunk.config.depth):
            repeat, place = divmod(layer, len(bound.blocks))
            own = jax.tree.map(lambda array: array[repeat], bound.block_params[place])
            condition = jax.tree.map(lambda array: array[repeat], conditioning.blocks[place])
            x, _ = bound.blocks[place].apply({"params": own}, x, condition, context)
            states.append(x)
        return states

    apply = jax.jit(
        lambda params, labels: trunk.apply({"params": params}, ClassLabels(labels), inputs)
    )
    first, *states = hidden(params)
    return {
        "x_embed": first,
        **{f"hidden_b{layer}": state for layer, state in enumerate(states)},
        "logits": apply(params, labels),
        "logits_uncond": apply(params, jnp.full_like(labels, trunk.config.num_classes)),
    }


class Run:
    """Sampling as the reference did it: greedy, or smooth with given noise."""

    def __init__(self, file, trunk, tokenizer, params, labels):
        self.file, self.trunk, self.tokenizer = file, trunk, tokenizer
        self.params, self.labels = params, labels
        self._sample = jax.jit(self._steps, static_argnames="smooth")
        self._decode = jax.jit(self._image)

    def greedy(self) -> dict[str, np.ndarray]:
        computed = {}
        for name, (guidance,) in settings(self.file, GREEDY).items():
            steps, image = self.sample(self.filters(guidance, top_k=1), self._silence())
            for k, step in enumerate(steps):
                computed[f"{name}_logits_s{k}"] = step["logits"]
                computed[f"{name}_idx_s{k}"] = step["tokens"]
            computed[f"{name}_f_hat"] = to_official(steps[-1]["running"])
            computed[f"{name}_image"] = to_official(image)
        return computed

    def filters(self, guidance, top_k, top_p=0.0) -> Filters:
        """The settings of sampling, at temperature 1."""
        config = SamplingConfig(guidance=guidance, top_k=top_k, top_p=top_p)
        return Filters.of(config, len(self.trunk.schedule))

    def greedy_tokens(self, guidance) -> np.ndarray:
        """The tokens of all scales, joined, without noise."""
        filters = self.filters(guidance, top_k=1)
        steps = self._sample(self.params, filters, self._silence(), smooth=False)
        return np.concatenate([step["tokens"] for step in steps], axis=1)

    def smooth(self) -> dict[str, np.ndarray]:
        runs = settings(self.file, SMOOTH)
        if not runs:
            return {}
        exponential = self._noises(self.file.info["gumbel_noise_names"])
        gumbel = [-np.log(noise) for noise in exponential]
        computed = {f"smooth_noise_s{k}": noise for k, noise in enumerate(exponential)}
        for name, (top_k, top_p) in runs.items():
            filters = self.filters(SMOOTH_GUIDANCE, int(top_k), top_p)
            steps, image = self.sample(filters, gumbel, smooth=True)
            for k, step in enumerate(steps):
                computed[f"{name}_logits_s{k}"] = step["logits"]
            computed[f"{name}_probs_s{len(steps) - 1}"] = self._weights(steps, filters, gumbel)
            computed[f"{name}_f_hat"] = to_official(steps[-1]["running"])
            computed[f"{name}_image"] = to_official(image)
        return computed

    def sample(self, filters, noises, smooth=False):
        """Guided logits, tokens and the running sum of every scale, and images in [0, 1]."""
        steps = self._sample(self.params, filters, noises, smooth=smooth)
        return steps, self._decode(self.params["tokenizer"], steps[-1]["running"])

    def _weights(self, steps, filters, gumbel):
        """The mixture of codes at the last scale."""
        space = self.tokenizer.token_space
        kept = jax.jit(space.filter)(steps[-1]["logits"], filters.top_k, filters.top_p)
        return space.mixture(kept, jnp.asarray(gumbel[-1]), 1.0)

    def _silence(self) -> list[np.ndarray]:
        """No noise, which is what the single token that top-k of 1 leaves needs."""
        batch, vocabulary = len(self.labels), self.trunk.logits
        lengths = self.trunk.schedule.lengths
        return [np.zeros((batch, length, vocabulary), np.float32) for length in lengths]

    def _noises(self, name) -> list[np.ndarray]:
        """Exp(1) noise of every scale by the recipe."""
        batch, vocabulary = len(self.labels), self.trunk.logits
        noises = []
        for k, length in enumerate(self.trunk.schedule.lengths):
            generator = self.file.generator(name.format(k=k))
            shape = (batch, length, vocabulary)
            noises.append(generator.standard_exponential(shape, dtype=np.float32))
        return noises

    def _steps(self, params, filters, noises, smooth):
        sampler = Sampler(self.trunk, self.tokenizer, smooth=smooth)
        keys = jax.random.split(jax.random.key(0), len(self.labels))
        request = Request(ClassLabels(self.labels), keys, filters)

        def given(keys, scale, tokens):
            return noises[scale]

        steps = list(generate_scales(sampler, Weights(**params), request, noise=given))
        wanted = ("logits", "tokens", "running")
        return [{name: getattr(step, name) for name in wanted} for step in steps]

    def _image(self, params, running):
        return (self.tokenizer.apply({"params": params}, running, method="decode") + 1) / 2


def _training(file, trunk, tokenizer, params, batch) -> dict[str, np.ndarray]:
    """Losses, gradients and two steps of AdamW with a constant rate of 1e-3."""
    labels, inputs, targets = batch
    entries = trunk_entries(trunk)
    batch_size = labels.shape[0]
    optimizer = make_optimizer(
        OptimizerConfig(
            learning_rate=1e-3 * 256 / batch_size, schedule="constant", warmup_fraction=0.0
        ),
        STEPS,
        batch_size,
    )

    def loss(params, smoothing):
        logits = trunk.apply({"params": params}, ClassLabels(labels), inputs)
        return trunk_loss(logits, targets, tokenizer, smoothing)[0]

    @jax.jit
    def differentiate(params, smoothing):
        value, gradients = jax.value_and_grad(loss)(params, smoothing)
        return value, optax.global_norm(gradients), gradients

    update = jax.jit(lambda state, gradients: apply_gradients(state, gradients, optimizer))
    losses, norms, state = [], [], create_state(params, optimizer)
    for step in range(STEPS):
        value, norm, gradients = differentiate(state.params, 0.0)
        losses.append(value)
        norms.append(norm)
        if step == 0:
            first = official_arrays(entries, gradients)
        state = update(state, gradients)
    losses.append(differentiate(state.params, 0.0)[0])
    moved = jax.tree.map(lambda new, old: np.asarray(new) - np.asarray(old), state.params, params)
    names = file.info["param_names"]
    smoothed = settings(file, SMOOTHED_LOSS)
    return {
        **{name: differentiate(params, ls)[0] for name, (ls,) in smoothed.items()},
        "train_losses": np.array(losses),
        "train_grad_norms": np.array(norms),
        "grad_l2": gradient_norms(first, names),
        **{f"grad__{name}": value for name, value in first.items()},
        "param_delta_l2_after_2_steps": gradient_norms(official_arrays(entries, moved), names),
    }
