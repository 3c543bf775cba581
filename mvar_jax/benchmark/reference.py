"""The official PyTorch code in a process of its own, on the same weights as ours."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from mvar_jax.array_types import Params
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.convert.checks import check_official_tokenizer, official_architecture
from mvar_jax.convert.safetensors import write_safetensors
from mvar_jax.convert.state_dict import Item, make_tensors, tokenizer_state, trunk_state
from mvar_jax.models import build_trunk
from mvar_jax.sampling import Weights

PROGRAM = Path(__file__).with_name("official.py")
RUNS = ("var", "mvar")  # what `official.py` knows


class Reference:
    """Runs of the official code, by its process."""

    def __init__(self, process: subprocess.Popen[str], errors: Path):
        self._process, self._errors = process, errors

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request.

        Raises ValueError with the last line of what the official code said if it ended.
        """
        assert self._process.stdin and self._process.stdout  # both are pipes
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        said = []
        if not answer:
            text = self._errors.read_text(encoding="utf-8", errors="replace")
            said = text.strip().splitlines()
        check(
            answer != "",
            f"--reference: the official code ended with {(said or ['nothing'])[-1][:300]!r}; "
            "expected a checkout that runs, and --reference_python, an interpreter with PyTorch "
            "and what that code imports.",
        )
        return json.loads(answer)

    def seconds(self, run: str, batch: int) -> tuple[float, float]:
        """Seconds of a run, "sample" or "train", and of the part that is known apart."""
        whole, part = self.ask({"run": run, "batch": batch})
        return whole, part


@contextmanager
def started_reference(
    config: Config, weights: Weights, *, checkout: Path, python: str
) -> Iterator[Reference]:
    """The official code of a config's model with these weights, until the block ends.

    Raises ValueError for a model that no official code runs, a checkout that is none, and where
    the official code does not start.
    """
    model = build_trunk(config)
    architecture = official_architecture(model)
    check(
        architecture in RUNS,
        f"--reference: got a config of {architecture}, expected one of {' or '.join(RUNS)}.",
    )
    check_official_tokenizer(config.tokenizer)
    check(
        (checkout / "models" / "__init__.py").is_file(),
        f"--reference: {checkout} has no models/__init__.py; expected a checkout of the official "
        "repository of VAR or M-VAR.",
    )
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "trunk.safetensors", Path(folder) / "tokenizer.safetensors"
        states = trunk_state(model), tokenizer_state(config.tokenizer)
        for file, state, params in zip(files, states, (weights.trunk, weights.tokenizer)):
            _write(file, state, params)
        errors = Path(folder) / "errors"
        command = [python, str(PROGRAM), str(checkout)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with (
            errors.open("w") as said,
            _process(command, stderr=said, **pipes) as process,
        ):
            reference = Reference(process, errors)
            reference.ask(
                {"settings": _settings(config), "trunk": str(files[0]), "tokenizer": str(files[1])}
            )
            for file in files:  # of gigabytes, and a program that is killed cleans up nothing
                file.unlink()
            yield reference


@contextmanager
def _process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    try:
        process = subprocess.Popen(command, text=True, **options)
    except OSError as error:
        raise ValueError(
            f"--reference_python: cannot run {command[0]!r} ({error.strerror}); expected an "
            "interpreter with PyTorch."
        ) from None
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _write(file: Path, state: dict[str, Item], params: Params) -> None:
    about = {name: (item.shape, item.dtype) for name, item in state.items()}
    write_safetensors(file, about, make_tensors(state, jax.device_get(params)))


def _settings(config: Config) -> dict[str, Any]:
    model, tokenizer, sampling = config.model, config.tokenizer, config.sampling
    return {
        "sides": [height for height, _ in tokenizer.scales],
        "vocabulary": tokenizer.vocabulary,
        "code_channels": tokenizer.code_channels,
        "base_channels": tokenizer.base_channels,
        "classes": model.num_classes,
        "depth": model.depth,
        "shared_modulation": model.shared_modulation,
        "qk_norm": model.qk_norm,
        "cfg": sampling.guidance,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "dtype": model.compute_dtype,
    }
