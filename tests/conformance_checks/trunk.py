"""VAR and M-VAR of a reference file, and everything that is stored of their computation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mvar_jax.config import ModelConfig, OptimizerConfig
from mvar_jax.convert.trunk_names import trunk_entries, trunk_params
from mvar_jax.models import Trunk
from mvar_jax.models.context import ScaleContext
from mvar_jax.sampling import Filter, generate_scales
from mvar_jax.training.optimizer import make_optimizer
from tests.conformance_checks.file import ReferenceFile
from tests.conformance_checks.tokenizer import (
    gradient_norms,
    load_tokenizer,
    reference_images,
    to_official,
)
from tests.models.weights import official_arrays

PATTERNS = {"mvar": ("scale+ssm",), "var": ("history",)}
GREEDY = {"cfg1p5": 1.5, "cfg4p0": 4.0}
SMOOTH = {"smooth": (0, 0.0), "smoothk20p0p9": (20, 0.9)}  # top-k and top-p at guidance 4
SMOOTHING = 0.1
STEPS = 2


def trunk_config(about) -> ModelConfig:
    """Our configuration of a trunk that is described in the original's terms."""
    return ModelConfig(
        num_classes=about["num_classes"],
        depth=about["depth"],
        width=about["embed_dim"],
        heads=about["num_heads"],
        pattern=PATTERNS[about["kind"]],
        mlp_ratio=float(about.get("mlp_ratio", 4)),
        qk_norm=about["attn_l2_norm"],
        shared_modulation=about["shared_aln"],
        norm_epsilon=float(about.get("norm_eps", 1e-6)),
        class_drop_rate=float(about.get("cond_drop_rate", 0.0)),
        drop_path_rate=float(about.get("drop_path_rate", 0.0)),
    )


def compute(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Every array that the library has a meaning for, by its stored name."""
    about = file.config
    tokenizer, tokenizer_weights = load_tokenizer(file, about["vae_config"])
    config = trunk_config(about)
    space = tokenizer.config
    trunk = Trunk(config, tokenizer.schedule, space.vocabulary, space.code_channels)
    params = trunk_params(file.weights(trunk_entries(trunk)), trunk)
    params = {"trunk": jax.tree.map(jnp.asarray, params), "tokenizer": tokenizer_weights}
    labels = jnp.asarray(about["labels"], jnp.int32)
    images = jnp.asarray(reference_images(file, about["vae_config"]))

    def encode(params):
        bound = tokenizer.bind({"params": params})
        return bound.training_pair(bound.encode(images))

    inputs, targets = jax.jit(encode)(params["tokenizer"])
    run = _Run(file, trunk, tokenizer, params, labels)
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
        conditioning = bound.condition(labels)
        x = bound.embed(conditioning, inputs)
        states = [x]
        for layer in range(trunk.config.depth):
            repeat, place = divmod(layer, len(bound.blocks))
            own = jax.tree.map(lambda array: array[repeat], bound.block_params[place])
            modulation = conditioning.blocks[place][repeat]
            context = ScaleContext(trunk.schedule)
            x, _ = bound.blocks[place].apply({"params": own}, x, modulation, context)
            states.append(x)
        return states

    apply = jax.jit(lambda params, labels: trunk.apply({"params": params}, labels, inputs))
    first, *states = hidden(params)
    return {
        "x_embed": first,
        **{f"hidden_b{layer}": state for layer, state in enumerate(states)},
        "logits": apply(params, labels),
        "logits_uncond": apply(params, jnp.full_like(labels, trunk.config.num_classes)),
    }


class _Run:
    """Sampling as the reference did it: greedy, or smooth with given noise."""

    def __init__(self, file, trunk, tokenizer, params, labels):
        self.file, self.trunk, self.tokenizer = file, trunk, tokenizer
        self.params, self.labels = params, labels
        self._sample = jax.jit(self._steps, static_argnames="smooth")

    def greedy(self) -> dict[str, np.ndarray]:
        zero = [np.zeros(noise.shape, np.float32) for noise in self._noises("input:unused_s{k}")]
        computed = {}
        for name, guidance in GREEDY.items():
            filters = Filter(guidance, 1, 0.0, 1.0)
            steps, image = self._sample(self.params, filters, zero, smooth=False)
            for k, step in enumerate(steps):
                computed[f"{name}_logits_s{k}"] = step["logits"]
                computed[f"{name}_idx_s{k}"] = step["tokens"]
            computed[f"{name}_f_hat"] = to_official(steps[-1]["running"])
            computed[f"{name}_image"] = to_official(image)
        return computed

    def smooth(self) -> dict[str, np.ndarray]:
        names = self.file.entry["info"].get("gumbel_noise_names")
        if names is None:
            return {}
        exponential = self._noises(names)
        gumbel = [-np.log(noise) for noise in exponential]
        computed = {f"smooth_noise_s{k}": noise for k, noise in enumerate(exponential)}
        for name, (top_k, top_p) in SMOOTH.items():
            filters = Filter(4.0, top_k, top_p, 1.0)
            steps, image = self._sample(self.params, filters, gumbel, smooth=True)
            for k, step in enumerate(steps):
                computed[f"{name}_logits_s{k}"] = step["logits"]
            computed[f"{name}_probs_s{len(steps) - 1}"] = self._weights(steps, filters, gumbel)
            computed[f"{name}_f_hat"] = to_official(steps[-1]["running"])
            computed[f"{name}_image"] = to_official(image)
        return computed

    def _weights(self, steps, filters, gumbel):
        """The mixture of codes at the last scale."""
        space = self.tokenizer.token_space
        kept = space.filter(steps[-1]["logits"], filters.top_k, filters.top_p)
        return space.mixture(kept, jnp.asarray(gumbel[-1]), 1.0)

    def _noises(self, name) -> list[np.ndarray]:
        """Exp(1) noise of every scale by the recipe."""
        batch, vocabulary = len(self.labels), self.trunk.vocabulary
        noises = []
        for k, length in enumerate(self.trunk.schedule.lengths):
            generator = self.file.generator(name.format(k=k))
            shape = (batch, length, vocabulary)
            noises.append(generator.standard_exponential(shape, dtype=np.float32))
        return noises

    def _steps(self, params, filters, noises, smooth):
        trunk = self.trunk.bind({"params": params["trunk"]})
        tokenizer = self.tokenizer.bind({"params": params["tokenizer"]})
        keys = jax.random.split(jax.random.key(0), len(self.labels))

        def given(keys, scale, tokens):
            return noises[scale]

        steps = list(generate_scales(trunk, tokenizer, self.labels, keys, filters, smooth, given))
        wanted = ("logits", "tokens", "running")
        image = (tokenizer.decode(steps[-1].running) + 1) / 2
        return [{name: getattr(step, name) for name in wanted} for step in steps], image


def _training(file, trunk, tokenizer, params, batch) -> dict[str, np.ndarray]:
    """Losses, gradients and two steps of AdamW with a constant rate of 1e-3."""
    labels, inputs, targets = batch
    space, entries = tokenizer.token_space, trunk_entries(trunk)
    batch_size = labels.shape[0]
    optimizer = make_optimizer(
        OptimizerConfig(
            learning_rate=1e-3 * 256 / batch_size, schedule="constant", warmup_fraction=0.0
        ),
        STEPS,
        batch_size,
    )

    def loss(params, smoothing):
        logits = trunk.apply({"params": params}, labels, inputs)
        return space.loss(logits, targets, smoothing).mean()

    differentiate = jax.jit(jax.value_and_grad(loss))
    losses, norms, start = [], [], params
    state = optimizer.init(params)
    for step in range(STEPS):
        value, gradients = differentiate(params, 0.0)
        losses.append(value)
        norms.append(optax.global_norm(gradients))
        if step == 0:
            first = official_arrays(entries, gradients)
        updates, state = jax.jit(optimizer.update)(gradients, state, params)
        params = optax.apply_updates(params, updates)
    losses.append(differentiate(params, 0.0)[0])
    moved = jax.tree.map(lambda new, old: np.asarray(new) - np.asarray(old), params, start)
    names = file.entry["info"]["param_names"]
    return {
        "loss_ls0p1": jax.jit(loss)(start, SMOOTHING),
        "train_losses": np.array(losses),
        "train_grad_norms": np.array(norms),
        "grad_l2": gradient_norms(first, names),
        **{f"grad__{name}": value for name, value in first.items()},
        "param_delta_l2_after_2_steps": gradient_norms(official_arrays(entries, moved), names),
    }
