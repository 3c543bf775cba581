"""The flags that say what is drawn: a model, and classes or prompts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from absl import flags

from mvar_jax.api import load
from mvar_jax.checks import check
from mvar_jax.cli.common import define_adapters, get_adapters, get_verify
from mvar_jax.config import parse_aspect
from mvar_jax.files import input_path
from mvar_jax.models import Condition
from mvar_jax.pictures.drawing import Rows
from mvar_jax.sampling import Model
from mvar_jax.text import StoredFeatures, TextEncoder, read_features
from mvar_jax.text.prompt_files import PromptSet, read_prompt_set, read_prompts
from mvar_jax.training.adapted import Adapters


def define_asked() -> None:
    """Defines the flags of `get_model` and `get_rows`."""
    define_model()
    define_features()
    flags.DEFINE_string("labels", None, "Classes by index or name, with commas between; or all.")
    flags.DEFINE_multi_string("prompt", None, "A text to draw; may be given several times.")


def define_model() -> None:
    """Defines the flags of `get_model`."""
    flags.DEFINE_string("workdir", None, "Directory of a trained model.")
    flags.DEFINE_string("checkpoint", None, "Directory of the trunk, in its place.")
    define_adapters()
    flags.DEFINE_string("tokenizer", None, "Directory of another tokenizer.")
    flags.DEFINE_string("text_encoder", None, "Folder of a T5, or wordllama, to read prompts.")
    flags.DEFINE_string("aspect", None, "Width:height of the images, as 3:2.")
    flags.DEFINE_string("pixels", None, "Budget of pixels: 0.06M, 0.25M, 0.60M or 1M.")
    flags.DEFINE_string("draft", None, "Directory of another model, to draw the first scales.")
    flags.DEFINE_integer("draft_scales", None, "How many scales it draws; the model the others.")


def define_features() -> None:
    """Defines `--features`, computed ahead, and `--negative`, of the settings of texts."""
    flags.DEFINE_string("features", None, "What encode_text wrote, in place of prompts.")
    flags.DEFINE_string("negative", None, "A text that guidance leads away from.")


def get_model() -> Model:
    """The model that the flags name, with its draft, for the image size that they ask for."""
    values = flags.FLAGS
    one = (values.workdir is None) != (values.checkpoint is None)
    check(one, "expected one of --workdir and --checkpoint, with or without --tokenizer.")
    check(
        (values.draft is None) == (values.draft_scales is None),
        "expected --draft, a model, and --draft_scales, how many scales it draws, or neither.",
    )
    directory = values.workdir or values.checkpoint
    model = _load(directory, values.text_encoder, adapters=get_adapters())
    if values.draft is None:
        return model
    return model.drafted(_load(values.draft, model.text_encoder), scales=values.draft_scales)


def _load(
    directory: str,
    text_encoder: str | TextEncoder | None,
    *,
    adapters: Adapters = (),
) -> Model:
    """A model, for the image size that the flags ask for."""
    values = flags.FLAGS
    aspect = None if values.aspect is None else parse_aspect(values.aspect)
    model = load(
        directory,
        values.tokenizer,
        adapters=adapters,
        verify=get_verify(),
        text_encoder=text_encoder,
    )
    if aspect is None and values.pixels is None:
        return model
    return model.reshaped(aspect=aspect, pixels=values.pixels)


def get_rows(model: Model) -> Rows:
    """What to draw, a condition per row. Raises ValueError for flags that the model does not take.

    An empty prompt is allowed: it is the unconditional one, which is said.
    """
    values, texts = flags.FLAGS, model.config.model.condition == "text"
    given = [name for name in ("labels", "prompt", "features") if values[name].value is not None]
    expected = "--prompt or --features" if texts else "--labels"
    check(
        len(given) == 1 and (given != ["labels"]) == texts,
        f"got {' and '.join(f'--{name}' for name in given) or 'neither labels nor prompts'}, "
        f"expected {expected}: the model draws {'texts' if texts else 'classes'}.",
    )
    if not texts:
        check(values.negative is None, "--negative: the model draws classes; leave it out.")
        labels = model.label_indices(model.parse_labels(values.labels))
        return Rows(labels.tolist(), tuple(model.class_names[label] for label in labels))
    prompts: Sequence[str] = values.prompt
    if values.features is not None:
        stored = _stored_features()
        model, prompts = replace(model, text_encoder=stored), stored.prompts
    if "" in prompts:
        print("An empty prompt: it draws without a condition.")
    return Rows(model.features(prompts), tuple(prompts))


def define_subjects() -> None:
    """Defines the flags of `get_subject`, for one image."""
    flags.DEFINE_string("label", None, "Class to draw, by index or name.")
    flags.DEFINE_string("prompt", None, "Of a model of texts, the text to draw.")
    flags.DEFINE_string("source_label", None, "Class of the image, to keep its layout.")
    flags.DEFINE_string("source_prompt", None, "Text of the image, to keep its layout.")
    flags.DEFINE_string("negative", None, "A text that guidance leads away from.")


def get_subject(model: Model, kind: str = "") -> str | None:
    """The value of `--label`, or `--prompt` of a model of texts, if any.

    `kind` "source_" is for those flags. Raises ValueError where the other one is given.
    """
    texts = model.config.model.condition == "text"
    own, other = (f"{kind}prompt", f"{kind}label")[:: 1 if texts else -1]
    check(
        flags.FLAGS[other].value is None,
        f"--{other}: the model draws {'texts' if texts else 'classes'}; give --{own} in its place.",
    )
    return flags.FLAGS[own].value


def get_classes(model: Model) -> list[str]:
    """A line for every class. Raises ValueError for a model that draws texts."""
    check(len(model.class_names) > 0, "--classes: the model draws texts; give --prompt.")
    return [f"{index}\t{name}" for index, name in enumerate(model.class_names)]


def define_prompts() -> None:
    """Defines `--prompts`; see `get_condition`."""
    flags.DEFINE_string("prompts", None, "Of a model of texts, a file of prompts, or a folder.")


def get_condition(model: Model, count: int) -> tuple[Condition, list[str]]:
    """Conditions for so many images: all classes in turn, or all texts of `--prompts`, and these.

    Raises ValueError for a model of texts without prompts, and for prompts without such a model.
    """
    file = flags.FLAGS.prompts
    if model.config.model.condition == "class":
        check(file is None, "--prompts: the model draws classes; leave it out.")
        labels = np.arange(count, dtype=np.int32) % model.config.model.num_classes
        return model.condition(labels.tolist()), []
    check(file is not None, "expected --prompts, a file with a text in every line.")
    prompts = read_prompts(input_path(file))
    repeated = [prompts[i % len(prompts)] for i in range(count)]
    return model.condition(repeated), repeated


def get_prompt_set(model: Model) -> tuple[Model, PromptSet | None]:
    """The prompts of `--prompts`, or else of `--features`, and the model that reads them.

    With `--features` it reads those; None of a model of classes. Raises ValueError for texts that
    such a model is given, and for none that one of texts is.
    """
    given = [name for name in ("prompts", "features", "negative") if flags.FLAGS[name].value]
    if model.config.model.condition == "class":
        check(not given, f"--{''.join(given[:1])}: the model draws classes; leave it out.")
        return model, None
    check(
        bool({"prompts", "features"} & set(given)),
        "expected --prompts, a file or folder, or --features: the model draws texts.",
    )
    if "features" not in given:
        return model, read_prompt_set(input_path(flags.FLAGS.prompts))
    stored = _stored_features()
    model = replace(model, text_encoder=stored)
    if "prompts" not in given:
        return model, PromptSet(stored.prompts)
    return model, read_prompt_set(input_path(flags.FLAGS.prompts))


def _stored_features() -> StoredFeatures:
    return read_features(input_path(flags.FLAGS.features), verify=get_verify())
