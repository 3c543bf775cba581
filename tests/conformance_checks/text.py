"""The encoder of T5 v1.1, from the tokens that a reference file stores."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.convert.names import read_params
from mvar_jax.convert.t5_names import t5_entries
from mvar_jax.ops.relative_position import relative_buckets
from mvar_jax.text import T5Config
from mvar_jax.text.t5 import T5
from tests.reference import ReferenceFile

GIVEN = re.compile(r"input_ids|long_input_ids|attention_mask|bucket_relative_position")


def t5_config(about) -> T5Config:
    """Our configuration of an encoder that is described in the original's terms."""
    return T5Config(
        vocabulary=about["vocab_size"],
        width=about["d_model"],
        head_dim=about["d_kv"],
        hidden=about["d_ff"],
        layers=about["num_layers"],
        heads=about["num_heads"],
        buckets=about["relative_attention_num_buckets"],
        max_distance=about["relative_attention_max_distance"],
        norm_epsilon=about.get("layer_norm_epsilon", 1e-6),
    )


def t5_params(file: ReferenceFile):
    """The encoder's parameters by the recipe."""
    entries = list(t5_entries(t5_config(file.config)))
    return jax.tree.map(jnp.asarray, read_params(entries, file.weights(entries)))


def compute(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Every state between layers, of padded prompts and of a long one, and the parts of layer 0."""
    model, params = T5(t5_config(file.config)), t5_params(file)
    tokens, mask = file["input_ids"], file["attention_mask"] > 0
    run = jax.jit(lambda *inputs: (_states(model, params, *inputs), _whole(model, params, *inputs)))
    (made, last), (long, long_last) = (
        run(tokens, mask),
        run(file["long_input_ids"], np.ones(file["long_input_ids"].shape, bool)),
    )
    whole = jax.jit(lambda *inputs: _whole(model, params, *inputs))
    alone = [
        np.max(np.abs(np.asarray(whole(row[None, :n], np.ones((1, n), bool)))[0] - last[i, :n]))
        for i, (row, n) in enumerate(zip(tokens, mask.sum(axis=1)))
    ]
    # The model gives 0 where there is no token, the original what its last norm leaves there.
    made["last_hidden_state"] = np.where(mask[..., None], last, made["last_hidden_state"])
    long["last_hidden_state"] = long_last
    about = file.config
    return {
        **made,
        **{f"long_{name}": value for name, value in long.items()},
        "bucket_index": relative_buckets(
            file["bucket_relative_position"],
            about["relative_attention_num_buckets"],
            about["relative_attention_max_distance"],
        ),
        "single_padding_check_max_abs": np.array(alone),
    }


def _whole(model: T5, params, tokens, mask):
    return model.apply({"params": params}, tokens, mask)


def _states(model: T5, params, tokens, mask):
    """What is stored of a batch; padded positions too, as the original leaves them."""
    bound = model.bind({"params": params})
    x, bias = bound.embed(tokens), bound.bias(tokens.shape[1])
    computed = {"hidden_0": x, "position_bias": bias}
    for layer in range(model.config.layers):
        own = jax.tree.map(lambda stacked, layer=layer: stacked[layer], params["layers"])
        block = model.block.bind({"params": own})
        if layer == 0:
            computed |= _parts(block, x, bias, mask)
        x = block(x, bias, mask)
        computed[f"hidden_{layer + 1}"] = x
    return computed | {"last_hidden_state": bound.final_norm(x)}


def _parts(block, x, bias, mask):
    normal = block.attention_norm(x)
    mixed = block.attention(normal, bias, mask)
    inner = block.ffn_norm(x + mixed)
    return {
        "block0_attn_norm": normal,
        "block0_attn_out": mixed,
        "block0_ff_norm": inner,
        "block0_ff_out": block.ffn(inner),
    }
