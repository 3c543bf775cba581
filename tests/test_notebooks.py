"""The notebook as users open it: a clean file, run with no connection and with official weights."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import mvar_jax
from mvar_jax.config.infinity_schedules import infinity_schedule
from mvar_jax.convert.shared_model import shared_model
from mvar_jax.pictures.image_grid import GAP
from tests.convert.models import (
    TOKENIZERS,
    TRUNKS,
    official_weights,
    text_trunk,
    write_official,
)
from tests.shared import quick_flags
from tests.text.builders import write_t5
from tests.tiny_run import save_run

NOTEBOOK = Path(__file__).parents[1] / "colab" / "sample.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_valid_and_holds_no_outputs(notebook):
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert ids == ["title", "form", "install", "model", "growth", "images"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_the_form_offers_the_models_that_there_are(notebook):
    form, models = source_of(notebook, "form"), source_of(notebook, "model")
    offered = json.loads(re.search(r"model_name = .*@param (\[.*\])", form)[1])
    assert offered == [*re.findall(r'"([^"]+)": \(', models), "digits"]


def test_without_a_connection_it_draws_digits(notebook, trained, tmp_path):
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
        "MVAR_JAX_WORKDIR": str(trained),
        "XLA_FLAGS": quick_flags(),
    }
    folder = tmp_path / "empty"
    folder.mkdir()
    NotebookClient(notebook, resources={"metadata": {"path": folder}}).execute(env=environment)
    assert not list(folder.iterdir())
    assert "No official weights, so a small model of digits instead: " in text_of(notebook, "model")
    assert text_of(notebook, "model").count("\n") == 1
    assert text_of(notebook, "growth") == "9, in scales of 1x1 2x2 3x3 4x4 tokens\n"
    growth, images = picture_of(notebook, "growth"), picture_of(notebook, "images")
    assert growth.size == (4 * (64 + GAP) + GAP, 4 * (64 + GAP) + GAP)
    assert images.size == (4 * (256 + GAP) + GAP, 256 + 2 * GAP)
    last_column = np.asarray(growth)[:, -64 - GAP : -GAP]
    for row in range(4):
        top = GAP + row * (64 + GAP)
        left = GAP + row * (256 + GAP)
        large = np.asarray(images)[GAP : GAP + 256, left : left + 256]
        np.testing.assert_array_equal(large[::4, ::4], last_column[top : top + 64])


def test_official_weights_are_downloaded_once_and_sampled(notebook, hub, tmp_path, monkeypatch):
    official = tmp_path / "official"
    official.mkdir()
    write_official(official / "var_d16.pth", official_weights(TRUNKS["var"]))
    write_official(official / "vae_ch160v4096z32.pth", official_weights(TOKENIZERS["vqvae"]))
    hub.share("FoundationVision/var", official)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        space = run_cells(notebook, ('"9"', '"1"'))
    assert hub.files("HEAD") == hub.files() == ["var_d16.pth", "vae_ch160v4096z32.pth"]
    assert space["images"].shape == (2, 4, 4, 4, 3)
    assert mvar_jax.load(tmp_path / "runs" / "var_d16").class_names == ("0", "1", "2")


def test_prompts_are_drawn_with_official_weights(notebook, hub, tmp_path, monkeypatch):
    official = tmp_path / "official"
    official.mkdir()
    trunk = text_trunk(schedule=infinity_schedule("1", "0.06M"), levels=15)
    write_official(official / "infinity_2b_reg.pth", official_weights(trunk))
    write_official(official / "infinity_vae_d32reg.pth", official_weights(TOKENIZERS["bsqvae"]))
    hub.share("FoundationVision/Infinity", official)
    encoder = write_t5(tmp_path / "encoder")
    (encoder / "pytorch_model.bin").write_bytes(b"never downloaded")
    hub.share("google/flan-t5-xl", encoder)
    monkeypatch.chdir(tmp_path)
    space = run_cells(
        notebook,
        ('"VAR d16"', '"Infinity 2B"'),
        ('"a fox in snow, film photograph"', '"a red ball"'),
        ("count = 4", "count = 1"),
        ('aspect = "1:1"', 'aspect = "16:9"'),
        ('pixels = "1M"', 'pixels = "0.06M"'),
    )
    assert hub.files()[:2] == ["infinity_2b_reg.pth", "infinity_vae_d32reg.pth"]
    assert "pytorch_model.bin" not in hub.files()
    scales, batch, height, width, _ = space["images"].shape
    assert (scales, batch) == (7, 1) and 1.6 < width / height < 1.9


def test_a_model_that_was_shared_is_drawn(notebook, hub, tmp_path, monkeypatch):
    model = shared_model(save_run(tmp_path / "run"), repository="me/tiny", license_name="mit")
    model.write(tmp_path / "shared")
    hub.share("me/tiny", tmp_path / "shared")
    monkeypatch.chdir(tmp_path)
    space = run_cells(notebook, ('"VAR d16"', '"hf://me/tiny"'), ('"9"', '"cat"'))
    assert space["images"].shape == (2, 4, 8, 8, 3)


def run_cells(notebook, *changes):
    """The variables after the cells up to the images as they grow, with changes in the form."""
    form, space = source_of(notebook, "form"), {}
    for old, new in changes:
        assert old in form
        form = form.replace(old, new, 1)
    for cell in (form, *(source_of(notebook, name) for name in ("install", "model", "growth"))):
        exec(cell, space)
    return space


GITHUB = "https://github.com/someone/mvar_jax"


@pytest.mark.parametrize(
    ("field", "clone", "path", "source"),
    [
        ("", True, "", "..[colab]"),
        ("", False, f"fileId={quote(GITHUB)}/blob/main/colab/sample.ipynb", f"{GITHUB}@main"),
        ("", False, "fileId=1aBcD", None),  # of a drive
        ("", False, None, None),  # not Colab
        (GITHUB, True, "", GITHUB),
        (f"git+{GITHUB}@v1", False, "", f"{GITHUB}@v1"),
        ("/my/clone", True, "", "/my/clone[colab]"),
    ],
)
def test_the_library_is_installed_from_where_the_notebook_is(
    notebook, tmp_path, monkeypatch, field, clone, path, source
):
    def sessions(address, timeout):
        if path is None:
            raise URLError("refused")
        return BytesIO(json.dumps([{"name": "other"}, {"path": path}]).encode())

    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "172.28.0.12")
    monkeypatch.setattr(urllib.request, "urlopen", sessions)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    (tmp_path / "colab").mkdir()
    monkeypatch.chdir(tmp_path / "colab")
    if clone:
        (tmp_path / "mvar_jax").mkdir()
        (tmp_path / "mvar_jax" / "__init__.py").touch()
    cell = source_of(notebook, "install").replace('repository = ""', f"repository = {field!r}")
    if source is None:
        with pytest.raises(ValueError, match="write the address of its repository"):
            exec(cell, {})
        assert not commands
        return
    exec(cell, {})
    source = source if source.endswith("[colab]") else f"mvar_jax[colab] @ git+{source}"
    assert [command[-1] for command in commands] == [source]


def source_of(notebook, name):
    return next(cell.source for cell in notebook.cells if cell.id == name)


def outputs_of(notebook, name):
    return next(cell.outputs for cell in notebook.cells if cell.id == name)


def text_of(notebook, name):
    streams = [output for output in outputs_of(notebook, name) if output.output_type == "stream"]
    return "".join(output.text for output in streams if output.name == "stdout")


def picture_of(notebook, name):
    data = [output.data for output in outputs_of(notebook, name) if "data" in output]
    (png,) = [item["image/png"] for item in data if "image/png" in item]
    return Image.open(BytesIO(b64decode(png)))
