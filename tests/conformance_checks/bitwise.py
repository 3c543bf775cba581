"""The bitwise tokenizer of an Infinity reference file, its quantizer, and the filters of bits."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from mvar_jax.ops.quantize import bit_entropies, bit_scores
from mvar_jax.ops.resize import resize_area
from mvar_jax.tokenizers import BitTokens, BSQTokenizer, CategoricalTokens
from mvar_jax.tokenizers.residual_bsq import BinaryQuantizer
from tests.conformance_checks.tokenizer import to_official
from tests.infinity_reference import InfinityFile

# Inputs, taken from the files as they are: what the originals were fed with, and the numbers of
# the draws that were kept.
GIVEN = re.compile(
    r"features|features_k|grad_probe|image|image_k|bsc_strength_percent|bsc_noise_apply_layers"
    r"|v\d+_logits"
)
SMALL = 0.05  # of a code's coordinate
MULTIPLIERS = (1, 2, 4, 4, 4)
ENTROPY_SCALE = 100.0  # the inverse temperature of the original's entropies


def to_ours(maps):
    """Maps with the channels last."""
    return jnp.asarray(rearrange(maps, "batch channels ... -> batch ... channels"))


def config_of(about) -> TokenizerConfig:
    """Our configuration of a tokenizer whose grids, bits and patches a file describes."""
    patch = 2 if about["patchify"] else 1
    sizes = [(height // patch, width // patch) for _, height, width in about["vs"]]
    _, height, width = about["vs"][-1]
    image = about.get("hw", (height, width))  # a quantizer alone has no image
    return TokenizerConfig(
        quantizer="bsq",
        image_size=tuple(image),
        scales=tuple(sizes),
        code_channels=about["d"],
        patch=patch,
        base_channels=about.get("base_ch", 32),
        channel_multipliers=MULTIPLIERS[: (image[0] // height).bit_length()],
        attention=False,
    )


def on_the_grid(quantizer: BinaryQuantizer, tokens, schedule):
    """Tokens of several scales as rows of the tokenizer's own grid, joined."""
    maps = [quantizer.unfold(own, size) for own, size in zip(tokens, schedule.sizes)]
    return jnp.concatenate([rearrange(x, "b h w c -> b (h w) c") for x in maps], axis=1)


def quantizer(file: InfinityFile) -> dict[str, np.ndarray]:
    """The quantizer, its gradient, and the pairs that a trunk is trained with."""
    config = config_of(file.config)
    features = to_ours(file["features"])
    probe = to_ours(file["grad_probe"])
    plain = jax.jit(lambda x: _quantized(config, x))(features)
    gradient = jax.jit(
        jax.grad(lambda x: jnp.sum(BinaryQuantizer(config)(x, config.schedule)[0] * probe))
    )(features)
    corrected, closest = _self_correction(file, config, features)
    return {
        **plain,
        **corrected,
        **jax.jit(_entropies)(features),
        "schedule": np.array(file.config["vs"]),
        "grad_features": to_official(gradient),
        "min_abs_prequant_all_runs": jnp.minimum(plain["min_abs_prequant"].min(), closest),
        # Commitment and entropy are switched off in the original, in training too.
        "losses": np.zeros(len(config.schedule), np.float32),
        "losses_train": np.zeros(len(config.schedule), np.float32),
    }


def _quantized(config, features):
    """The noise-free quantizer, and everything of its scales that is stored."""
    quantizer, schedule = BinaryQuantizer(config), config.schedule
    pyramid = quantizer.pyramid(features, schedule)
    left = _residuals(quantizer, features, pyramid, schedule)
    running, inputs = quantizer.start(features.shape[0], schedule), []
    for k, scale in enumerate(pyramid):
        running, _ = quantizer.accumulate(running, quantizer.embed(scale.tokens), k, schedule)
        if k + 1 < len(schedule):
            own = quantizer._map_size(schedule.sizes[k + 1])
            area = resize_area(scale.running, own)
            inputs.append(rearrange(area, "b h w c -> b c (h w)"))
    limit = SMALL / jnp.sqrt(config.code_channels)
    tokens = [scale.tokens for scale in pyramid]
    return {
        "z": to_official(quantizer(features, schedule)[0]),
        "bits": on_the_grid(quantizer, tokens, schedule),
        "codes_from_bits": to_official(running)[:, :, None],
        "var_inputs_area": jnp.concatenate(inputs, axis=-1),
        "residual_small_fraction": jnp.stack([jnp.mean(jnp.abs(x) < limit) for x in left]),
        "min_abs_prequant": _closest(left),
    }


def _closest(left):
    """How near to zero a sign was taken at every scale, of vectors that are divided by lengths."""
    return jnp.stack([jnp.min(jnp.abs(_units(x))) for x in left])


def _units(vectors):
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _residuals(quantizer, features, pyramid, schedule):
    """What every scale takes the signs of, on its own grid."""
    before = [jnp.zeros_like(features), *(scale.running for scale in pyramid)]
    return [
        resize_area(features - total, quantizer._map_size(size))
        for total, size in zip(before, schedule.sizes)
    ]


def _self_correction(file, config, features):
    """Inputs and targets with the stored rates of flips, and without flips."""
    quantizer, flips = BinaryQuantizer(config), []
    for k in range(int(file["bsc_noise_apply_layers"])):
        height, width = quantizer._map_size(config.schedule.sizes[k])
        shape = (len(features), height, width, config.code_channels)
        limit = np.float32(file["bsc_strength_percent"][k] * 0.01)
        noise = jnp.asarray(file.uniform(f"input:bsc_noise:{k}", shape))
        flips.append(quantizer.fold(noise < limit))
    return jax.jit(partial(_corrected, config))(features, flips)


def _corrected(config, features, flips):
    quantizer, schedule = BinaryQuantizer(config), config.schedule
    pyramid = quantizer.pyramid(features, schedule, flips)
    noisy = _joined(pyramid)
    tokenizer = BSQTokenizer(config)
    clean = tokenizer.apply({}, features, method="training_pair")
    flipped = [scale.tokens ^ flip for scale, flip in zip(pyramid, flips)]
    computed = {"bsc_flipped_bits_tokenizer_grid": on_the_grid(quantizer, flipped, schedule)}
    # Without quantizing again the original's flips have no effect.
    for name, (inputs, targets) in (("requant1", noisy), ("requant0", clean), ("clean", clean)):
        computed |= {f"bsc_{name}_x": inputs, f"bsc_{name}_gt_bits": targets}
    left = _residuals(quantizer, features, pyramid, schedule)
    return computed, _closest(left).min()


def _joined(pyramid):
    inputs = [scale.next_input for scale in pyramid[:-1]]
    return jnp.concatenate(inputs, axis=1), jnp.concatenate([s.tokens for s in pyramid], axis=1)


def _entropies(features):
    each, together = bit_entropies(features, ENTROPY_SCALE)
    zero = jax.nn.sigmoid(-bit_scores(features, ENTROPY_SCALE))
    return {
        "soft_entropy_per_sample": each,
        "soft_entropy_codebook": together,
        "soft_entropy_avg_prob": jnp.stack([zero, 1 - zero], axis=-1).mean(axis=(0, 1, 2)),
    }


def vae(file: InfinityFile) -> dict[str, np.ndarray]:
    """The whole tokenizer, with the activations of its layers."""
    config = config_of(file.config)
    params = tokenizer_params(file.tokenizer_weights(tokenizer_entries(config)), config)
    arrays = jax.jit(lambda params, images: _forward(config, params, images))(
        params, to_ours(file["image"])
    )
    return {**arrays, "schedule": np.array(file.config["vs"])}


def _forward(config, params, images):
    tokenizer, schedule = BSQTokenizer(config), config.schedule
    bound = tokenizer.bind({"params": params})
    quantizer = bound.quantizer
    latent, encoded = bound.encoder.apply(
        {"params": params["encoder"]}, images, capture_intermediates=True
    )
    pyramid = quantizer.pyramid(latent, schedule)
    quantized, tokens = pyramid[-1].running, [scale.tokens for scale in pyramid]
    reconstruction, decoded = bound.decoder.apply(
        {"params": params["decoder"]}, quantized, capture_intermediates=True
    )
    from_bits = bound.start(len(images))
    for k, own in enumerate(tokens):
        from_bits, _ = bound.accumulate(from_bits, bound.embed(own), k)
    again = bound.decode(from_bits)
    rounding = jnp.abs(again - jnp.clip(reconstruction, -1, 1)).max()
    left = _residuals(quantizer, latent, pyramid, schedule)
    maps = {"latent": latent, "z": quantized, "recon_unclamped": reconstruction}
    return {
        **{name: to_official(value) for name, value in maps.items()},
        **_activations("enc", "down", encoded["intermediates"], ("mid",)),
        **_activations("dec", "up", decoded["intermediates"], ("mid", "conv_in")),
        "bits": on_the_grid(quantizer, tokens, schedule),
        "min_abs_prequant": _closest(left),
        "recon_from_bits_minus_recon_maxabs": rounding,
        # The original truncates, and has blue first.
        "image_uint8_bgr": ((again + 1) / 2 * 255).astype(jnp.uint8)[..., ::-1],
    }


def _activations(half, level, outputs, whole):
    """The stored activations of the encoder or the decoder: sample 0, mostly 4 channels."""
    names = {"conv_in": "conv_in", "middle": "mid"}
    names |= {f"level_{i}": f"{level}{i}" for i in range(len(outputs))}
    found = {}
    for ours, theirs in names.items():
        if ours in outputs:
            (maps,) = outputs[ours]["__call__"]
            channels = None if theirs in whole else 4
            found[f"act_{half}_{theirs}"] = to_official(maps[:1, ..., :channels])
    return found


def sampling(file: InfinityFile) -> dict[str, np.ndarray]:
    """Filters of choices among two and among several values."""
    computed = {}
    for match in file.match(r"(v(\d+)_)k(\d+)_p([\d.]+)_keep"):
        start, values, top_k, top_p = match.groups()
        logits = jnp.asarray(file[f"{start}logits"])
        space = BitTokens(1) if int(values) == 2 else CategoricalTokens(int(values))
        kept = space.filter(logits, int(top_k), float(top_p))
        name = match.group().removesuffix("_keep")
        computed |= {f"{name}_keep": kept > -jnp.inf, f"{name}_prob": jax.nn.softmax(kept, axis=-1)}
    return computed
