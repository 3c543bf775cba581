"""Official PyTorch code, timed from a checkout of its repository.

This file is run by itself, by an interpreter that has PyTorch and what that code asks for; it
imports nothing of this library. The checkout is its argument. It answers every request, a JSON
object on a line of standard input, with one on standard output; what the official code prints goes
to standard error. `reference.py` is the other side.
"""

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


class ClassConditional:
    """VAR or M-VAR: the names of both repositories are the same."""

    def __init__(self, torch: Any, settings: dict[str, Any], trunk: str, tokenizer: str):
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        models = importlib.import_module("models")
        self.vae, self.trunk = models.build_vae_var(
            device=self.device,
            patch_nums=tuple(settings["sides"]),
            V=settings["vocabulary"],
            Cvae=settings["code_channels"],
            ch=settings["base_channels"],
            num_classes=settings["classes"],
            depth=settings["depth"],
            shared_aln=settings["shared_modulation"],
            attn_l2_norm=settings["qk_norm"],
        )
        self.trunk.load_state_dict(read_safetensors(torch, trunk))
        self.vae.load_state_dict(read_safetensors(torch, tokenizer))
        self.settings = settings
        self.precision = getattr(torch, settings["dtype"])
        self.decode, self.decoder_seconds = self.vae.fhat_to_img, 0.0
        self.vae.fhat_to_img = self._decode

    def sample(self, batch: int) -> list[float]:
        """Seconds of drawing `batch` images, and those of the decoder in them."""
        self.trunk.eval()
        labels = self.torch.zeros(batch, dtype=self.torch.int64, device=self.device)
        names = ("cfg", "top_k", "top_p")
        filters = {name: self.settings[name] for name in names}
        started = self._now()
        with self.torch.inference_mode(), self._autocast():
            self.trunk.autoregressive_infer_cfg(B=batch, label_B=labels, g_seed=0, **filters)
        return [self._now() - started, self.decoder_seconds]

    def train(self, batch: int) -> list[float]:
        """Seconds of the loss of `batch` images and its gradient, and those of the loss alone."""
        self.trunk.train()
        total = sum(side**2 for side in self.settings["sides"])
        labels = self.torch.zeros(batch, dtype=self.torch.int64, device=self.device)
        tokens = self.torch.zeros((batch, total), dtype=self.torch.int64, device=self.device)
        rest, codes = total - self.settings["sides"][0] ** 2, self.settings["code_channels"]
        inputs = self.torch.zeros((batch, rest, codes), device=self.device)
        started = self._now()
        with self._autocast():
            logits = self.trunk(labels, inputs)
            loss = self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        forward = self._now() - started
        loss.backward()
        seconds = self._now() - started
        self.trunk.zero_grad(set_to_none=True)
        return [seconds, forward]

    def _decode(self, *arguments):
        started = self._now()
        images = self.decode(*arguments)
        self.decoder_seconds = self._now() - started
        return images

    def _autocast(self):
        kind, exact = self.precision, self.precision == self.torch.float32
        return self.torch.autocast(self.device, dtype=None if exact else kind, enabled=not exact)

    def _now(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()


def main() -> None:
    """Loads the model that the first line describes, then answers the rest."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch = importlib.import_module("torch")
    sys.path.insert(0, sys.argv[1])
    model = ClassConditional(torch, **json.loads(sys.stdin.readline()))
    print(json.dumps({"torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        seconds = getattr(model, asked["run"])(asked["batch"])
        print(json.dumps(seconds), file=answers, flush=True)


if __name__ == "__main__":
    main()
