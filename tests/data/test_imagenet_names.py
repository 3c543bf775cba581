"""English names of ImageNet's classes, and their order."""

import importlib.util
import subprocess
import sys

from mvar_jax.data.imagenet_names import imagenet_names


def test_every_class_has_a_name_of_its_own_in_the_order_of_the_labels():
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench, Tinca tinca", 9: "ostrich, Struthio camelus", 207: "golden retriever"}
    known |= {88: "macaw", 980: "volcano", 999: "toilet tissue, toilet paper, bathroom tissue"}
    assert {index: names[index] for index in known} == known


def test_reading_them_imports_no_dataset():
    script = "import sys; from mvar_jax.data import imagenet_names as names"
    script += "\nassert names.imagenet_names()[1][:8] == 'goldfish'"
    script += "\nassert 'tensorflow_datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_the_list_there_are_no_names(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert imagenet_names.__wrapped__() == ()
