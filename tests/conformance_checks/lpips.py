"""LPIPS with both classifiers, from the pairs of images that a reference file stores."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.convert.lpips_names import backbone_entries, head_entries
from mvar_jax.convert.names import read_params
from mvar_jax.networks import lpips
from mvar_jax.ops.resize import resize_bilinear
from tests.reference import ReferenceFile

GIVEN = re.compile(r"[ab](64|96x80)|unit_in")


def compute(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Distances by depth and in all, features, the gradient, vectors of unit length."""
    backbone = lpips.VGG16 if file.config["net"] == "vgg" else lpips.ALEXNET
    entries = [*backbone_entries(backbone), *head_entries(backbone)]
    params = read_params(entries, file.network_weights(entries))
    # Weights are arguments: XLA would compute what depends on constants alone while it compiles.
    run = jax.jit(lambda params, a, b: lpips.lpips(backbone, params, a, b))
    slope = jax.jit(jax.grad(lambda b, a, params: run(params, a, b).sum()))
    layers = partial(run, params)
    computed = {}
    for size in ("64", "96x80"):
        if f"a{size}" in file.arrays:
            own = layers(file[f"a{size}"], file[f"b{size}"])
            computed |= {f"layers_{size}": own, f"total_{size}": own.sum(axis=1)}
    a, b = file["a64"], file["b64"]
    if "a96x80" in file.arrays:
        pair = jnp.asarray(file["a96x80"]), jnp.asarray(file["b96x80"])
        maps = lpips.lpips_maps(backbone, params, *pair)
        wide = [resize_bilinear(one[..., None], (96, 80)) for one in maps]
        computed["spatial_map_96x80"] = sum(wide)[0, :, :, 0]
    ones = {n: jax.tree.map(jnp.ones_like, p) if n[:4] == "head" else p for n, p in params.items()}
    bytes_a, bytes_b = (np.rint((x + 1) * 127.5).clip(0, 255) / 127.5 - 1 for x in (a, b))
    computed |= {
        "layers_64_no_heads": run(ones, a, b),
        # Given as [0, 1] with the flag, or as [-1, 1]: the same images here.
        "total_64_normalize_flag": layers(a, b).sum(axis=1),
        "total_64_from_uint8": layers(*map(np.float32, (bytes_a, bytes_b))).sum(axis=1),
        "total_identical": layers(a, a).sum(axis=1),
        "grad_b64_first2": slope(b[:2], a[:2], params),
    }
    return computed | _parts(backbone, params, a[:1]) | _units(file)


def _parts(backbone, params, image):
    scaled = lpips.scaled(jnp.asarray(image))
    computed = {"scaled_input_0": np.moveaxis(np.asarray(scaled[0]), -1, 0)}
    for i, maps in enumerate(lpips.backbone_maps(backbone, params, scaled)):
        whole = np.moveaxis(np.asarray(maps[0]), -1, 0)
        stored = whole[:, ::2, ::2] if whole.shape[-1] >= 32 else whole
        computed[f"feature_{i}"] = stored[
            : 4 if whole.shape[-1] >= 16 and stored.shape[-1] >= 16 else 16
        ]
        computed[f"feature_{i}_gap"] = whole.mean(axis=(1, 2))
    return computed


def _units(file):
    """The stored vectors lie along the second axis."""
    if "unit_in" not in file.arrays:
        return {}
    made = lpips.unit_length(jnp.moveaxis(jnp.asarray(file["unit_in"]), 1, -1))
    made = np.moveaxis(np.asarray(made), -1, 1)
    return {"unit_out": made, "unit_out_float64": made}
