"""The official PyTorch code in a process of its own, on the same weights as ours."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from mvar_jax.array_types import Params
from mvar_jax.checks import check, first_line
from mvar_jax.config import Config
from mvar_jax.convert.checks import check_official_tokenizer, official_architecture
from mvar_jax.convert.infinity_names import official_chunks
from mvar_jax.convert.state_dict import Item, make_tensors, tokenizer_state, trunk_state
from mvar_jax.models import build_trunk
from mvar_jax.sampling import Filters, Weights
from mvar_jax.tensor_files.safetensors import write_safetensors

PROGRAM = Path(__file__).with_name("official.py")
# The file by which a checkout of each architecture is known.
CHECKOUTS = {
    "var": Path("models", "__init__.py"),
    "mvar": Path("models", "__init__.py"),
    "infinity": Path("infinity", "models", "infinity.py"),
}
BASE_CHANNELS = 128  # of Infinity's tokenizers, in the official code


class OfficialError(Exception):
    """A run of the official code failed; the next may do."""


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
        """Seconds of a run, "sample" or "train", and of the part that is known apart.

        Raises OfficialError if the official code does, and ValueError if it ended.
        """
        answer = self.ask({"run": run, "batch": batch})
        if isinstance(answer, dict):
            raise OfficialError(first_line(answer["error"]))
        whole, part = answer
        return whole, part


def check_reference(config: Config, *, checkout: Path, python: str) -> None:
    """Raises ValueError for what no official code can run.

    That is another model, a folder that is no checkout of its repository, and an interpreter that
    is not there.
    """
    try:
        architecture = official_architecture(build_trunk(config))
        check_official_tokenizer(config.tokenizer)
        _settings(config)
    except ValueError as error:
        raise ValueError(f"--reference: no official code runs this config: {error}") from None
    file = CHECKOUTS[architecture]
    check(
        (checkout / file).is_file(),
        f"--reference: {checkout} has no {file}; expected a checkout of the official repository "
        f"of {architecture}, the architecture of --config.",
    )
    check(
        shutil.which(python) is not None,
        f"--reference_python: found no {python!r}, expected an interpreter with PyTorch.",
    )


@contextmanager
def started_reference(
    config: Config, weights: Weights, *, checkout: Path, python: str
) -> Iterator[Reference]:
    """The official code of a config's model with these weights, until the block ends.

    What `check_reference` takes. Raises ValueError where the official code does not start.
    """
    model = build_trunk(config)
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
                {
                    "settings": _settings(config),
                    "trunk": str(files[0]),
                    "tokenizer": str(files[1]),
                }
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
    """What `official.py` is told of a model."""
    is_text = config.model.condition == "text"
    return _shared_settings(config) | (_text_settings if is_text else _class_settings)(config)


def _shared_settings(config: Config) -> dict[str, Any]:
    """What the runs of every architecture ask for."""
    model, schedule = config.model, config.tokenizer.schedule
    return {
        "dtype": model.compute_dtype,
        "scales": schedule.sizes,
        "tokens": schedule.total,
        "first": schedule.lengths[0],
        "codes": config.tokenizer.token_channels,
        "text": None,
    }


def _class_settings(config: Config) -> dict[str, Any]:
    model, tokenizer, sampling = config.model, config.tokenizer, config.sampling
    check(
        (model.width, model.heads) == (64 * model.depth, model.depth),
        f"--reference: got depth {model.depth} with width {model.width} and {model.heads} heads; "
        f"the official code makes {64 * model.depth} and {model.depth} of that depth.",
    )
    made = {
        "patch_nums": [height for height, _ in tokenizer.scales],
        "V": tokenizer.vocabulary,
        "Cvae": tokenizer.code_channels,
        "ch": tokenizer.base_channels,
        "num_classes": model.num_classes,
        "depth": model.depth,
        "shared_aln": model.shared_modulation,
        "attn_l2_norm": model.qk_norm,
    }
    filters = {"cfg": sampling.guidance, "top_k": sampling.top_k, "top_p": sampling.top_p}
    return {"model": made, "sampling": filters}


def _text_settings(config: Config) -> dict[str, Any]:
    model, tokenizer = config.model, config.tokenizer
    check(
        tokenizer.base_channels == BASE_CHANNELS,
        f"--reference: got tokenizer.base_channels={tokenizer.base_channels}; the official code "
        f"makes {BASE_CHANNELS}.",
    )
    text, multipliers = model.text, list(tokenizer.channel_multipliers)
    made = {
        "depth": model.depth,
        "embed_dim": model.width,
        "num_heads": model.heads,
        "mlp_ratio": model.mlp_ratio,
        "drop_path_rate": model.drop_path_rate,
        "text_channels": text.channels,
        "text_maxlen": text.max_length,
        "block_chunks": official_chunks(model),
        "apply_spatial_patchify": int(tokenizer.patch == 2),
        "shared_aln": True,
        "rope2d_each_sa_layer": 1,
        "rope2d_normalized_by_hw": 2,
    }
    bits = tokenizer.code_channels
    vae = {
        "codebook_dim": bits,
        "codebook_size": 2**bits,
        "patch_size": 2 ** (len(multipliers) - 1),
        "encoder_ch_mult": multipliers,
        "decoder_ch_mult": multipliers,
    }
    return {
        "model": made,
        "tokenizer": vae,
        "sampling": _text_filters(config),
        "text": [text.max_length, text.channels],
    }


def _text_filters(config: Config) -> dict[str, Any]:
    """Filters per scale; guidance is counted from 1 there, and its layer from the end."""
    sampling, scales = config.sampling, len(config.tokenizer.scales)
    filters, layer = Filters.of(sampling, scales), sampling.guidance_layer
    return {
        "cfg_list": [1 + float(guidance) for guidance in filters.guidance],
        "tau_list": [float(temperature) for temperature in filters.temperature],
        "cfg_insertion_layer": [layer - 1 - config.model.depth if layer else 0],
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
