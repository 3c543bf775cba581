"""The metrics of generated images, from the features, logits and images that files store."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.evaluation import inception_score, kernel_distance, neighbours
from mvar_jax.evaluation.frechet import Gaussian, Moments, gaussian_distance
from mvar_jax.ops.fidelity import psnr, ssim, ssim_map
from tests.reference import ReferenceFile

GIVEN = re.compile(
    r"\w_[xy]|(diag|general)_(mu|var|sigma)_[xy]|logits_\d|(gen|ref|dup)_(\d|gen|ref)|[xyab]_\d|"
    r"[ab]_uint8_\d"
)


def frechet(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Moments, and distances from features and from statistics."""
    computed: dict = {}
    for name in file.config["sets"]:
        x = Moments.of(file[f"{name}_x"]).gaussian()
        y = Moments.of(file[f"{name}_y"]).gaussian() if f"{name}_y" in file.arrays else x
        stored = [Gaussian.from_covariance(g.mean, g.covariance) for g in (x, y)]
        exact, way = gaussian_distance(x, y), float(np.sum((x.mean - y.mean) ** 2))
        traces = np.trace(x.covariance) + np.trace(y.covariance)
        own = {"mean_term_exact": way, "trace_sqrt_exact": (traces + way - exact) / 2}
        own |= {"mu_x": x.mean, "mu_y": y.mean, "sigma_x": x.covariance, "sigma_y": y.covariance}
        own |= dict.fromkeys(("fid_exact", "fid_qr_svd"), exact)
        others = ("fid_scipy_sqrtm", "fid_eigvals", "fid_scipy_sqrtm_float32_mean")
        own |= dict.fromkeys(others, gaussian_distance(*stored))
        computed |= {f"{name}_{key}": np.asarray(value) for key, value in own.items()}
    for name in ("diag", "general"):
        pair = [_stored(file, name, side) for side in "xy"]
        computed[f"{name}_fid_exact"] = np.asarray(gaussian_distance(*pair))
    return computed


def _stored(file, name, side):
    mean = file[f"{name}_mu_{side}"]
    if name == "diag":
        return Gaussian.from_covariance(mean, np.diag(file[f"diag_var_{side}"]))
    return Gaussian.from_covariance(mean, file[f"{name}_sigma_{side}"])


def score(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The Inception Score in splits, in order and shuffled, and in chunks of a size."""
    computed = {"permutation_2020": np.random.RandomState(2020).permutation(1003)}
    computed["is0_first100_single_split_exact"] = _of(file["logits_0"][:100], 1)[0]
    for i, size in enumerate(file.config["chunk"]):
        if f"logits_{i}" not in file.arrays:  # the tests keep one set
            continue
        logits = file[f"logits_{i}"]
        for splits in (10 if i == 0 else 2, 1):
            order = np.random.RandomState(2020).permutation(len(logits))
            computed[f"is{i}_splits{splits}_in_order"] = _of(logits, splits)
            computed[f"is{i}_splits{splits}_shuffled2020"] = _of(logits[order], splits)
        bounds = [*range(0, len(logits), size), len(logits)]
        computed[f"is{i}_chunk_values"] = np.array(inception_score.split_scores(logits, bounds))
        computed[f"is{i}_chunks_of_{size}"] = computed[f"is{i}_chunk_values"].mean()
    return computed


def _of(logits, splits):
    return np.array(inception_score.inception_score(logits, splits))


def precision_recall(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Radii, which points are inside, and their shares."""
    pairs = {
        f"pr{i}": (file[f"gen_{i}"], file[f"ref_{i}"]) for i in (0, 1) if f"gen_{i}" in file.arrays
    }
    pairs["dup"] = file["dup_gen"], file["dup_ref"]
    computed = {}
    for name, (generated, real) in pairs.items():
        for k in (3, 5):
            radii = [neighbours.ball_radii(points, k) for points in (generated, real)]
            own = {
                "precision_recall": np.array(neighbours.precision_recall(generated, real, k)),
                "gen_inside": neighbours.inside(generated, real, radii[1]),
                "ref_inside": neighbours.inside(real, generated, radii[0]),
                "radius_gen": radii[0],
                "radius_ref": radii[1],
            }
            computed |= {f"{name}_k{k}_{key}": value for key, value in own.items()}
    same = file["gen_0"]
    computed["identical_precision_recall"] = np.array(neighbours.precision_recall(same, same))
    return computed


def kernel(file: ReferenceFile) -> dict[str, np.ndarray]:
    """The kernel distance of whole sets and of random subsets."""
    computed, distance = {}, kernel_distance.kernel_distance
    for i in (0, 1):
        x, y = file[f"x_{i}"], file[f"y_{i}"]
        computed[f"kid{i}_full_unbiased"] = np.asarray(distance(x, y))
        values = np.array(kernel_distance.subset_distances(x, y, subsets=20, size=100))
        start = f"kid{i}_subsets20_size100_seed2020"
        computed[f"{start}_mean_std"] = np.array([values.mean(), values.std()])
        computed[f"kid{i}_subset_values"] = values
        generator = np.random.RandomState(kernel_distance.SEED)
        for side, points in (("x", x), ("y", y)):
            chosen = generator.choice(len(points), 100, replace=False)
            computed[f"kid{i}_first_subset_{side}"] = chosen
    x, y = file["x_1"], file["y_1"]
    computed["kid_small_exact_first60_first50_of_set1"] = np.asarray(distance(x[:60], y[:50]))
    return computed | {"kid_same_set_full_unbiased": np.asarray(distance(x, x))}


def fidelity(file: ReferenceFile) -> dict[str, np.ndarray]:
    """SSIM and PSNR in float64, and what other settings of SSIM give."""
    with jax.enable_x64(True):
        computed = {}
        for i in (0, 1):
            if f"a_{i}" not in file.arrays:
                continue
            a, b = (jnp.float64(file[f"{side}_{i}"])[None] for side in "ab")
            bytes_a, bytes_b = (
                jnp.float64(file[f"{side}_uint8_{i}"])[None] / 127.5 for side in "ab"
            )
            edges = ((0, 0), (5, 5), (5, 5), (0, 0))
            wide = [jnp.pad(one, edges, "symmetric") for one in (a, b)]
            grey = [one.mean(axis=-1, keepdims=True) for one in (a, b)]
            own = {
                f"ssim_{i}": ssim(a, b),
                f"ssim_map_{i}": ssim_map(*wide),
                f"ssim_{i}_gray_mean": ssim(*grey),
                f"ssim_{i}_uint8": ssim(bytes_a, bytes_b),
                f"psnr_{i}": psnr(a, b),
                f"psnr_{i}_uint8": psnr(bytes_a, bytes_b),
                f"ssim_{i}_sample_covariance": _other_ssim(a, b, _gaussian_window()),
                f"ssim_{i}_uniform7_default": _other_ssim(a, b, np.full(7, 1 / 7)),
            }
            computed |= {name: np.asarray(value)[0] for name, value in own.items()}
    return computed


def _gaussian_window():
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    return window / window.sum()


def _other_ssim(x, y, window):
    """SSIM by another window, with sample covariance: what scikit-image has as default."""

    def smooth(maps):
        for axis in (1, 2):
            maps = np.lib.stride_tricks.sliding_window_view(maps, len(window), axis) @ window
        return maps

    sample = len(window) ** 2 / (len(window) ** 2 - 1)
    x_mean, y_mean = smooth(x), smooth(y)
    x_spread, y_spread = smooth(x * x) - x_mean**2, smooth(y * y) - y_mean**2
    both = smooth(x * y) - x_mean * y_mean
    low, high = 0.02**2, 0.06**2
    upper = (2 * x_mean * y_mean + low) * (2 * sample * both + high)
    lower = (x_mean**2 + y_mean**2 + low) * (sample * (x_spread + y_spread) + high)
    return np.mean(upper / lower, axis=(1, 2, 3))
