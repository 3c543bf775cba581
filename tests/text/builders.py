"""Tiny tokenizers, and folders of a tiny T5, as tests need them."""

import json
from pathlib import Path

import numpy as np

from mvar_jax.convert.t5_names import t5_entries
from mvar_jax.tensor_files.safetensors import write_safetensors
from mvar_jax.text import T5Config
from tests.reference import recipe_weights

SENTENCES = [
    "a red ball lies beside a small box",
    "the green ring is above a blue cross",
    "two stars and a moon over the sea",
    "a photo of a dog that runs through snow",
    "an old house with a red roof at night",
    "water falls from a high rock into a lake",
] * 3
CONFIG = T5Config(
    vocabulary=112, width=32, head_dim=8, hidden=48, layers=2, heads=4, buckets=8, max_distance=20
)
PIECES = 96  # of the tokenizers


def write_json(folder: Path) -> None:
    """A `tokenizer.json` of the kind that T5 has: pieces of words, pad 0, end 1, unknown 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    tokenizer.enable_truncation(7)  # as files have it that were saved while training
    tokenizer.enable_padding()
    tokenizer.save(str(folder / "tokenizer.json"))


def write_sentencepiece(folder: Path) -> None:
    """A `spiece.model` with the same special pieces."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(folder / "spiece"),
        vocab_size=40,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )


def t5_tensors(config: T5Config = CONFIG) -> dict[str, np.ndarray]:
    """The official tensors of an encoder, by the recipe."""
    return recipe_weights({entry.official: entry.official_shape for entry in t5_entries(config)})


def save_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes arrays to a file."""
    about = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    write_safetensors(file, about, tensors.items())


def write_t5(folder: Path, config: T5Config = CONFIG) -> Path:
    """A folder with an encoder, its tokenizer and its config."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder)
    save_safetensors(folder / "model.safetensors", t5_tensors(config))
    settings = {"relative_attention_max_distance": config.max_distance, "model_type": "t5"}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder
