"""Images are compared with others as sets, and one by one."""

import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.frechet import frechet_distance
from mvar_jax.evaluation.judges import Judged, Judges
from mvar_jax.evaluation.quickstart_report import _network_distances
from mvar_jax.networks.lpips import lpips
from mvar_jax.pictures.pixels import to_uint8
from tests.evaluation.networks import tiny, tiny_lpips


def some(count, seed):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)


def test_distances_are_those_of_the_networks():
    networks, perceptual = [tiny(), tiny("other", seed=1)], tiny_lpips()
    judges = Judges([FeatureExtractor(network, 4) for network in networks], perceptual)
    images, others = some(18, 0), some(18, 1)
    found = Judged(judges, images).compare(others)
    assert set(found) == {"fid", "fd_lite", "lpips"}
    for name, network in zip(("fid", "fd_lite"), networks):
        pools = [network.compute(network.params, to_uint8(x)).pool for x in (others, images)]
        assert found[name] == pytest.approx(frechet_distance(*map(np.asarray, pools)), rel=1e-4)
    pairs = lpips(perceptual.backbone, perceptual.params, *map(jnp.asarray, (images, others)))
    assert found["lpips"] == pytest.approx(float(np.mean(np.sum(pairs, axis=1))), rel=1e-5)
    same = Judged(judges, images).compare(images)
    assert max(same.values()) < 1e-9
    assert Judged(judges, images).compare_with_themselves() == dict.fromkeys(same, 0.0)
    nothing = Judged(Judges(), images)
    assert nothing.compare(others) == nothing.compare_with_themselves() == {}


def test_the_quickstart_compares_as_many_images_as_the_test_split_has():
    judges, test = Judges([FeatureExtractor(tiny("other"), 4)]), some(10, 0)
    train = np.concatenate([test[::-1], some(5, 1)])
    samples = np.repeat(some(10, 2), 3, axis=0)
    found = _network_distances(judges, samples, train, test)
    assert found["fd_lite_real"] < 1e-9  # the same images in another order
    expected = Judged(judges, test).compare(samples[1::3])["fd_lite"]
    assert found["fd_lite"] == pytest.approx(expected, rel=1e-4)
    assert _network_distances(Judges(), samples, train, test) == {}
