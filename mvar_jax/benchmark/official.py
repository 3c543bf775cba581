"""Official PyTorch code, timed from a checkout of its repository.

This file is run by itself, by an interpreter that has PyTorch and what that code asks for; it
imports nothing of this library. The checkout is its argument. It answers every request, a JSON
object on a line of standard input, with one on standard output; what the official code prints goes
to standard error. `reference.py` is the other side.
"""

import abc
import importlib
import json
import mmap
import os
import sys
import time
from typing import Any

TYPES = {"F32": "float32", "I64": "int64", "I32": "int32"}


def read_safetensors(torch: Any, path: str) -> dict[str, Any]:
    """The tensors of a .safetensors file."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    first = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, about in json.loads(data[8:first]).items():
        begin, end = about["data_offsets"]
        dtype = getattr(torch, TYPES[about["dtype"]])
        part = memoryview(data)[first + begin : first + end]
        tensors[name] = torch.frombuffer(part, dtype=dtype).reshape(about["shape"])
    return tensors


class Official(abc.ABC):
    """A model of the official code: `trunk` in evaluation mode, or in that of training."""

    def __init__(self, torch: Any, settings: dict[str, Any]):
        self.torch, self.settings = torch, settings
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = getattr(torch, settings["dtype"])
        self.trunk: Any = None
        self.decoder_seconds = 0.0

    def sample(self, batch: int) -> list[float]:
        """Seconds of drawing `batch` images, and those of the decoder in them."""
        self.trunk.eval()
        condition = self._condition(batch)
        started = self.now()
        with self.torch.inference_mode(), self._autocast():
            self._draw(batch, condition)
        return [self.now() - started, self.decoder_seconds]

    def train(self, batch: int) -> list[float]:
        """Seconds of the loss of `batch` images and its gradient, and those of the loss alone."""
        self.trunk.train()
        condition, given = self._condition(batch), self._teacher(batch)
        started = self.now()
        with self._autocast():
            loss = self._loss(condition, *given)
        forward = self.now() - started
        loss.backward()
        seconds = self.now() - started
        self.trunk.zero_grad(set_to_none=True)
        return [seconds, forward]

    def timed(self, decode: Any) -> Any:
        """A decoder that keeps the seconds of its last run."""

        def run(*arguments):
            started = self.now()
            images = decode(*arguments)
            self.decoder_seconds = self.now() - started
            return images

        return run

    def zeros(self, *shape: int, dtype: str = "float32") -> Any:
        """Zeros on the device."""
        return self.torch.zeros(shape, dtype=getattr(self.torch, dtype), device=self.device)

    def now(self) -> float:
        """Seconds, when all work is done."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    @abc.abstractmethod
    def _condition(self, batch: int) -> Any:
        """What `batch` images are drawn from."""

    @abc.abstractmethod
    def _draw(self, batch: int, condition: Any) -> None:
        """Draws images."""

    @abc.abstractmethod
    def _teacher(self, batch: int) -> tuple[Any, Any]:
        """Inputs and tokens to learn from."""

    @abc.abstractmethod
    def _loss(self, condition: Any, inputs: Any, tokens: Any) -> Any:
        """The loss of a batch."""

    def _autocast(self):
        kind, exact = self.precision, self.precision == self.torch.float32
        return self.torch.autocast(self.device, dtype=None if exact else kind, enabled=not exact)


class ClassConditional(Official):
    """VAR or M-VAR, whose repositories have the same names, but for the function that builds."""

    def __init__(self, torch: Any, settings: dict[str, Any], trunk: str, tokenizer: str):
        super().__init__(torch, settings)
        build = builder_of(importlib.import_module("models"))
        self.vae, self.trunk = build(device=self.device, **settings["model"])
        self.trunk.load_state_dict(read_safetensors(torch, trunk))
        self.vae.load_state_dict(read_safetensors(torch, tokenizer))
        self.vae.fhat_to_img = self.timed(self.vae.fhat_to_img)

    def _condition(self, batch):
        return self.zeros(batch, dtype="int64")

    def _draw(self, batch, condition):
        settings = self.settings["sampling"]
        self.trunk.autoregressive_infer_cfg(B=batch, label_B=condition, g_seed=0, **settings)

    def _teacher(self, batch):
        length, first, codes = (self.settings[name] for name in ("tokens", "first", "codes"))
        tokens = self.zeros(batch, length, dtype="int64")
        return self.zeros(batch, length - first, codes), tokens

    def _loss(self, condition, inputs, tokens):
        logits = self.trunk(condition, inputs)
        return self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def builder_of(models: Any) -> Any:
    """What builds tokenizer and trunk, of the module `models` of VAR's repository or M-VAR's."""
    return getattr(models, "build_vae_var", None) or models.build_vae_mvar


class TextConditional(Official):
    """Infinity."""

    def __init__(self, torch: Any, settings: dict[str, Any], trunk: str, tokenizer: str):
        super().__init__(torch, settings)
        make = importlib.import_module("infinity.models.bsq_vae.vae").vae_model
        weights = {"vae": read_safetensors(torch, tokenizer)}
        self.vae = make(weights, "dynamic", **settings["tokenizer"]).to(self.device)
        kind = importlib.import_module("infinity.models.infinity").Infinity
        self.trunk = kind(self.vae, inference_mode=True, **settings["model"]).to(self.device)
        self.trunk.load_state_dict(read_safetensors(torch, trunk))
        self.trunk.rng = torch.Generator(device=self.device)
        self.vae.decode = self.timed(self.vae.decode)
        self.scales = [(1, height, width) for height, width in settings["scales"]]

    def _condition(self, batch):
        length, channels = self.settings["text"]
        ends = [length * count for count in range(batch + 1)]
        ends = self.torch.tensor(ends, dtype=self.torch.int32, device=self.device)
        return self.zeros(batch * length, channels), [length] * batch, ends, length

    def _draw(self, batch, condition):
        settings = self.settings["sampling"]
        self.trunk.autoregressive_infer_cfg(
            self.vae, self.scales, condition, batch, g_seed=0, returns_vemb=1, vae_type=1,
            ret_img=True, inference_mode=True, **settings,
        )  # fmt: skip

    def _teacher(self, batch):
        length, first, codes = (self.settings[name] for name in ("tokens", "first", "codes"))
        bits = self.zeros(batch, length, codes, dtype="int64")
        return self.zeros(batch, length - first, codes), bits

    def _loss(self, condition, inputs, bits):
        logits = self.trunk(condition, inputs, self.scales)
        each = logits.unflatten(-1, (-1, 2)).flatten(0, 2)
        return self.torch.nn.functional.cross_entropy(each, bits.flatten())


def answer(model: Official, asked: dict[str, Any]) -> Any:
    """The seconds of a run, or what went wrong, after which the next may do."""
    try:
        return getattr(model, asked["run"])(asked["batch"])
    except Exception as error:  # whatever the official code raises, as for too little memory
        model.torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Loads the model that the first line describes, then answers the rest."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch = importlib.import_module("torch")
    sys.path.insert(0, sys.argv[1])
    described = json.loads(sys.stdin.readline())
    kind = TextConditional if described["settings"]["text"] else ClassConditional
    model = kind(torch, **described)
    print(json.dumps({"torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
