"""Both forms of the trunk compute what the original implementations compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.sampling import Filter, generate_scales
from tests.models.weights import load_reference

TINY = ["mvar_tiny_a_l2", "var_tiny_a_nol2", "var_tiny_a_saln"]


@pytest.fixture(scope="module", params=TINY)
def reference(request):
    return load_reference(request.param)


def run_scales(reference, filters, smooth=False, noise=None):
    """Every step of sampling the file's labels, from jitted code."""

    @jax.jit
    def run(params, labels, filters):
        trunk = reference.trunk.bind({"params": params["trunk"]})
        tokenizer = reference.tokenizer.bind({"params": params["tokenizer"]})
        keys = jax.random.split(jax.random.key(0), labels.shape[0])
        steps = list(generate_scales(trunk, tokenizer, labels, keys, filters, smooth, noise))
        images = (tokenizer.decode(steps[-1].running) + 1) / 2
        return [(step.logits, step.tokens, step.running) for step in steps], images

    return run(reference.params, jnp.asarray(reference.golden["labels"]), filters)


def to_channels_first(maps):
    return np.moveaxis(np.asarray(maps), -1, 1)


def test_teacher_forced_logits(reference):
    golden = reference.golden
    apply = jax.jit(reference.trunk.apply)
    variables = {"params": reference.params["trunk"]}
    golden.check("logits", apply(variables, golden["labels"], golden["teacher_input"]))
    unconditional = np.full_like(golden["labels"], reference.trunk.config.num_classes)
    golden.check("logits_uncond", apply(variables, unconditional, golden["teacher_input"]))


def test_greedy_guided_sampling(reference):
    golden = reference.golden
    for name, guidance in (("cfg1p5", 1.5), ("cfg4p0", 4.0)):
        steps, images = run_scales(reference, Filter(guidance, 1, 0.0, 1.0))
        for scale, (logits, tokens, _) in enumerate(steps):
            golden.check(f"{name}_logits_s{scale}", logits)
            golden.check(f"{name}_idx_s{scale}", tokens)
        golden.check(f"{name}_f_hat", to_channels_first(steps[-1][2]))
        golden.check(f"{name}_image", to_channels_first(images))


@pytest.mark.parametrize(
    ("name", "top_k", "top_p"), [("smooth", 0, 0.0), ("smoothk20p0p9", 20, 0.9)]
)
def test_smooth_sampling_with_given_noise(name, top_k, top_p):
    reference = load_reference("mvar_tiny_a_l2")
    golden = reference.golden
    noises = [-np.log(noise) for noise in golden.scales("smooth_noise_s")]

    def given(keys, scale, tokens):
        return jnp.asarray(noises[scale])

    filters = Filter(4.0, top_k, top_p, 1.0)
    steps, images = run_scales(reference, filters, smooth=True, noise=given)
    golden.check(f"{name}_logits_s0", steps[0][0])
    # A low temperature amplifies rounding from scale to scale: the stated allowance for maps.
    running, image = to_channels_first(steps[-1][2]), to_channels_first(images)
    np.testing.assert_allclose(running, golden[f"{name}_f_hat"], atol=2e-3, rtol=0)
    np.testing.assert_allclose(image, golden[f"{name}_image"], atol=2e-3, rtol=0)


def test_gradients(reference):
    golden = reference.golden
    labels, inputs, targets = (
        jnp.asarray(golden[name]) for name in ("labels", "teacher_input", "gt_idx")
    )
    space = reference.tokenizer.token_space

    def loss(params, smoothing):
        logits = reference.trunk.apply({"params": params}, labels, inputs)
        return space.loss(logits, targets, smoothing).mean()

    value, gradients = jax.jit(jax.value_and_grad(loss))(reference.params["trunk"], 0.0)
    np.testing.assert_allclose(
        value, golden["train_losses"][0], atol=golden.tolerance("train_losses"), rtol=0
    )
    golden.check("loss_ls0p1", jax.jit(loss)(reference.params["trunk"], 0.1))
    layer = {
        name: array[0]
        for name, array in gradients["blocks_0"]["attention"].items()
        if not isinstance(array, dict)
    }
    width = reference.trunk.config.width
    golden.check("grad__blocks.0.attn.q_bias", layer["query_bias"].reshape(width))
    golden.check("grad__blocks.0.attn.v_bias", layer["value_bias"].reshape(width))
    golden.check("grad__class_emb.weight", gradients["class_embedding"])
    golden.check("grad__head.bias", gradients["head"]["bias"])
    if reference.trunk.config.kinds[0].ssm:
        ssm = jax.tree.map(lambda array: array[0], gradients["blocks_0"]["ssm"])
        for name in ("A_log", "dt_bias", "D"):
            golden.check(f"grad__blocks.0.mamba.{name}", ssm[name])
        golden.check("grad__blocks.0.mamba.norm.weight", ssm["norm_scale"].reshape(-1))


@pytest.mark.slow
def test_ten_scales_of_680_tokens():
    reference = load_reference("mvar_tiny_c_l2")
    golden = reference.golden
    steps, images = run_scales(reference, Filter(4.0, 1, 0.0, 1.0))
    for scale, (logits, tokens, _) in enumerate(steps):
        golden.check(f"cfg4p0_idx_s{scale}", tokens)
        name = f"cfg4p0_logits_s{scale}"
        if name in golden.arrays:
            golden.check(name, logits)
        else:
            golden.check(f"{name}__every5", logits[:, ::5])
    golden.check("cfg4p0_f_hat", to_channels_first(steps[-1][2]))
    golden.check("cfg4p0_image__every4", to_channels_first(images)[..., ::4, ::4])
