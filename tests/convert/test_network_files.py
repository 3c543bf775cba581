"""Weights of the networks are read from the files that their authors published, and only those."""

import hashlib

import numpy as np
import pytest

from mvar_jax.convert import network_files
from mvar_jax.convert.efficientnet_names import efficientnet_entries
from mvar_jax.convert.inception_names import inception_entries
from mvar_jax.convert.lpips_names import backbone_entries, head_entries
from mvar_jax.convert.tensor_file import read_tensors
from mvar_jax.networks import lpips
from tests.convert import files


def zeros(entries):
    return {e.official: np.zeros(e.official_shape, np.float32) for e in entries}


@pytest.fixture(scope="module")
def inception():
    tensors = zeros(inception_entries())
    counts = {
        name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64)
        for name in tensors
        if name.endswith("running_mean")
    }
    return tensors | counts


@pytest.mark.parametrize("write", [files.write_pth, files.write_early_pth])
def test_inception_is_read_in_either_format_of_pytorch(tmp_path, inception, write):
    bias = np.arange(1008, dtype=np.float32)
    file = write(tmp_path / "weights.pth", inception | {"fc.bias": bias})
    network = network_files.load_inception(file)
    assert network.weights == hashlib.sha256(file.read_bytes()).hexdigest()
    np.testing.assert_array_equal(network.params["fc"]["bias"], bias)
    assert network.params["Mixed_7c"]["branch3x3dbl_3b"]["kernel"].shape == (3, 1, 384, 384)


def test_other_weights_are_refused(tmp_path, inception):
    fewer = {name: tensor for name, tensor in inception.items() if not name.startswith("fc.")}
    wrong = {
        "fc.weight of shape .* is missing; expected pt_inception-2015": fewer,
        r"fc.bias has shape \(1000,\), expected \(1008,\)": inception | {"fc.bias": np.zeros(1000)},
        "AuxLogits.conv0 belongs to no such model": inception | {"AuxLogits.conv0": np.zeros(3)},
    }
    for i, (words, tensors) in enumerate(wrong.items()):
        file = files.write_pth(tmp_path / f"{i}.pth", tensors)
        with pytest.raises(ValueError, match=rf"^{file}: .*{words}.*\.$"):
            network_files.load_inception(file)


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path):
    file = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    file.write_bytes(b"another")
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(ValueError, match=f"begins with {found[:8]}, expected 6726825d as its name"):
        network_files.load_inception(file)
    named = tmp_path / f"other-{found[:8]}.pth"
    file.rename(named)
    assert network_files.check_digest(named) == found


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_lpips_takes_what_it_needs_of_a_classifier(tmp_path, name):
    backbone = {"vgg": lpips.VGG16, "alex": lpips.ALEXNET}[name]
    rest = {"classifier.6.weight": np.zeros((10, 4), np.float32)}
    classifier = files.write_pth(tmp_path / "a.pth", zeros(backbone_entries(backbone)) | rest)
    heads = files.write_early_pth(tmp_path / "b.pth", zeros(head_entries(backbone)))
    network = network_files.load_lpips(name, classifier, heads)
    assert network.backbone is backbone and len(network.weights) == 2
    assert network.params["head4"]["weight"].shape == (backbone.depths[4][-1].outputs,)
    with pytest.raises(ValueError, match="expected torchvision's file of VGG16 or AlexNet"):
        network_files.load_lpips(name, heads, heads)


def test_efficientnet_has_the_tensors_of_its_package():
    (file,) = network_files._package_files(network_files.LITE_PACKAGE, "models/*.pth")
    found = {
        name: tensor.shape
        for name, tensor in read_tensors(file).items()
        if not name.endswith(network_files.COUNTS)
    }
    assert found == {entry.official: entry.official_shape for entry in efficientnet_entries()}
    assert list(found) == [entry.official for entry in efficientnet_entries()]


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no_such: .* pip install -e '\.\[metrics\]'"):
        network_files._package_files("no_such", "*.pth")
