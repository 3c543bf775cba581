"""The tokenizer of a reference file, and everything that is stored of its computation."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.tokenizers.residual_vq import shared_index
from mvar_jax.training.losses import tokenizer_loss
from tests.models.weights import official_arrays
from tests.reference import ReferenceFile

BLOCK = 8  # pixels of the coarse part of the reference images


def tokenizer_config(about) -> TokenizerConfig:
    """Our configuration of a tokenizer that is described in the original's terms."""
    return TokenizerConfig(
        image_size=(about["px"], about["px"]),
        scales=ScaleSchedule.squares(*about["pn"]).sizes,
        vocabulary=about["V"],
        code_channels=about["z"],
        base_channels=about["ch"],
        shared_convolutions=about.get("share_quant_resi", 4),
        residual_ratio=float(about.get("quant_resi", 0.5)),
        normalize_codes=about.get("using_znorm", False),
        commitment=float(about.get("beta", 0.25)),
    )


def reference_images(file: ReferenceFile, about) -> np.ndarray:
    """The file's images, float32 [batch, height, width, 3] in [-1, 1]."""
    batch, side, tag = about["B"], about["px"], about["tag"]
    coarse = file.normal(f"input:image{tag}:coarse", (batch, 3, side // BLOCK, side // BLOCK))
    fine = file.normal(f"input:image{tag}:fine", (batch, 3, side, side))
    coarse = coarse.repeat(BLOCK, axis=2).repeat(BLOCK, axis=3)
    images = np.clip(np.float32(0.5) * coarse + np.float32(0.25) * fine, -1, 1)
    return np.moveaxis(images, 1, -1)


def load_tokenizer(file: ReferenceFile, about):
    """The tokenizer that `about` describes, and its parameters by the recipe."""
    config = tokenizer_config(about)
    params = tokenizer_params(file.weights(tokenizer_entries(config)), config)
    return VQTokenizer(config), jax.tree.map(jnp.asarray, params)


def to_official(maps):
    """Maps with the channels first, as the original stores them."""
    return rearrange(maps, "batch height width channels -> batch channels height width")


def compute(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Every array that the library has a meaning for, by its stored name."""
    tokenizer, params = load_tokenizer(file, file.config)
    images = jnp.asarray(reference_images(file, file.config))
    maps, others = jax.jit(_forward, static_argnums=0)(tokenizer, params, images)
    total, gradients = jax.jit(jax.value_and_grad(_total_loss, argnums=1), static_argnums=0)(
        tokenizer, params, images
    )
    entries = tokenizer_entries(tokenizer.config)
    official = official_arrays(entries, gradients)
    scales = len(tokenizer.schedule)
    convolutions = tokenizer.config.shared_convolutions or scales
    return {
        "image": to_official(images),
        **{name: to_official(value) for name, value in maps.items()},
        **others,
        "phi_index": np.array(shared_index(convolutions, scales), np.int32),
        "train_total_loss": total,
        "grad_l2": gradient_norms(official, file.info["param_names"]),
        **{f"grad__{name}": value for name, value in official.items()},
    }


def gradient_norms(official, names) -> np.ndarray:
    """The norm of every parameter's gradient, in a stated order."""
    return np.array([np.linalg.norm(official[name].astype(np.float64)) for name in names])


def _forward(tokenizer, params, images):
    tokenizer = tokenizer.bind({"params": params})
    features = tokenizer.encode(images)
    pyramid = tokenizer.quantizer.pyramid(features, tokenizer.schedule)
    quantized, vq_loss, _ = tokenizer.quantizer(features, tokenizer.schedule)
    running = pyramid[-1].running
    maps = {
        "encoder_out": tokenizer.encoder(images),
        "f": features,
        **{f"f_hat_s{k}": scale.running for k, scale in enumerate(pyramid)},
        "recon_raw": tokenizer.decoder(tokenizer.decoder_projection(running)),
        "recon": tokenizer.decode(running),
        "train_recon": tokenizer.reconstruct(images)[0],
        "train_f_hat": quantized,
    }
    others = {
        **{f"idx_s{k}": scale.tokens for k, scale in enumerate(pyramid)},
        "var_input": tokenizer.training_pair(features)[0],
        "vq_loss": vq_loss,
    }
    return maps, others


def _total_loss(tokenizer, params, images):
    return tokenizer_loss(images, *tokenizer.apply({"params": params}, images))[0]
