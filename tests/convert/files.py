"""Files of weights as tests need them, right or wrong, written without PyTorch."""

import itertools
import json
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from mvar_jax.tensor_files import safetensors

STORAGE_NAMES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
}


@dataclass(frozen=True)
class Strided:
    """A tensor that claims any shape, strides and offset of the storage that holds `array`."""

    array: np.ndarray
    shape: tuple
    strides: tuple
    offset: int = 0


@dataclass(frozen=True)
class Call:
    """What a pickle says to call a function."""

    name: str
    arguments: tuple


def write_pth(path, tree, compression=zipfile.ZIP_STORED, entries=(), drop=()):
    """Saves nested dicts, tuples, numbers, text and arrays as `torch.save` does.

    `entries` are more of them by name; `drop` are names of entries to leave out.
    """
    storages = []
    files = {"archive/data.pkl": b"\x80\x02" + encode(tree, storages) + b"."}
    files |= {f"archive/data/{i}": array.tobytes() for i, array in enumerate(storages)}
    files |= {"archive/version": b"3\n"} | dict(entries)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in files.keys() - set(drop):
            archive.writestr(name, files[name])
    return path


def write_early_pth(path, tree, little=True, keys=None, tail=b""):
    """Saves the same as PyTorch did before version 1.6; `keys` and `tail` make it wrong."""
    storages = []
    about = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    saved = encode(tree, storages)
    named_keys = [str(i) for i in range(len(storages))] if keys is None else keys
    pickles = (encode(value, []) for value in (1001, about))
    parts = [*pickles, saved, encode(named_keys, [])]
    content = EARLY + b"".join(b"\x80\x02" + part + b"." for part in parts)
    for array in storages:
        content += struct.pack("<q", array.size) + array.tobytes()
    path.write_bytes(content + tail)
    return path


EARLY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def encode(value, storages):
    """A value's pickle, protocol 2; the arrays of its tensors are added to `storages`."""

    def join(values):
        return b"".join(encode(value, storages) for value in values)

    match value:
        case None | bool():
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"\x8a\x08" + struct.pack("<q", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():  # text, as Python 2 wrote it
            return b"U" + bytes([len(value)]) + value
        case dict():
            return b"}(" + join(itertools.chain(*value.items())) + b"u"
        case tuple():
            return b"(" + join(value) + b"t"
        case list():
            return b"](" + join(value) + b"e"
        case Call():
            return named(value.name) + encode(value.arguments, storages) + b"R"
        case Strided():
            if not any(value.array is array for array in storages):
                storages.append(value.array)
            kind = named(f"torch.{STORAGE_NAMES[value.array.dtype.name]}")
            key = next(str(i) for i, array in enumerate(storages) if array is value.array)
            size = value.array.size
            identity = b"(" + join(["storage"]) + kind + join([key, "cpu", size]) + b"tQ"
            rest = join([value.offset, value.shape, value.strides, False])
            function, hooks = named("torch._utils._rebuild_tensor_v2"), named(HOOKS) + b")R"
            return function + b"(" + identity + rest + hooks + b"tR"
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return encode(Strided(array, array.shape, strides), storages)


HOOKS = "collections.OrderedDict"


def named(name):
    """The pickle of a function or class."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def write_shards(folder, tensors, suffix=".safetensors"):
    """Arrays in two shards with their index, as large models are published; returns the folder."""
    folder.mkdir(exist_ok=True)
    names = list(tensors)
    halves = {f"part-1{suffix}": names[::2], f"part-2{suffix}": names[1::2]}
    for file, own in halves.items():
        part = {name: tensors[name] for name in own}
        if suffix == ".bin":
            write_pth(folder / file, part)
        else:
            about = {name: (array.shape, array.dtype) for name, array in part.items()}
            safetensors.write_safetensors(folder / file, about, part.items())
    places = {name: file for file, own in halves.items() for name in own}
    stem = "pytorch_model.bin" if suffix == ".bin" else "model.safetensors"
    (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def write_safetensors(path, header, data=b""):
    """A file of that header, text or bytes, and data."""
    text = header.encode() if isinstance(header, str) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path
