"""The card of a shared model: what it is, how to sample from it, and what its run measured."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.convert.find_trunk import PATTERNS
from mvar_jax.evaluation.markdown import markdown_table
from mvar_jax.files import HUB, load_json, parse_json, read_grown
from mvar_jax.hub.failures import hub_library
from mvar_jax.workdir import Workdir

LIBRARY = "mvar_jax"
NAMES = {"mvar": "M-VAR", "var": "VAR", "infinity": "Infinity"}
PAPERS = {"mvar": "2411.10433", "var": "2404.02905", "infinity": "2412.04431"}
REPORTS = ("report.json", "metrics.json")  # of the quickstart, and of `evaluate metrics`
LOGS = {"metrics.jsonl": "trunk", "tokenizer/metrics.jsonl": "tokenizer"}
LOGGED = ("step", "loss", "accuracy", "psnr", "lpips")  # and the same of the validation
SHOWN_CLASSES = 4
PROMPT = "a red ball"


def model_card(
    workdir: Workdir,
    config: Config,
    *,
    repository: str,
    license_name: str,
    class_names: tuple[str, ...],
    picture: str | None,
    weights: Mapping[str, str],
) -> str:
    """The README.md of a shared model, in Markdown behind a front matter of YAML.

    `weights` are the checksums by the files' names. Figures are those of the reports and logs in
    `workdir`, none where it has none. Raises ValueError for a report that is no JSON.
    """
    pattern = set(config.model.pattern)
    kind = next((kind for kind, own in PATTERNS.items() if set(own) == pattern), "")
    front = hub_library().ModelCardData(
        license=license_name,
        library_name=LIBRARY,
        tags=_tags(kind),
        pipeline_tag="text-to-image" if _draws_texts(config) else "unconditional-image-generation",
    )
    parts = [
        f"---\n{front.to_yaml().strip()}\n---",
        f"# {repository.partition('/')[2]}",
        _about(config, NAMES.get(kind, "A mixture"), trained=workdir.record() is not None),
        *([f"![Samples]({picture})"] if picture else []),
        _sampling(config, repository, class_names),
        *_figures(workdir),
        "## Weights\n\nThe files hold arrays and no code. SHA-256 over their names, shapes and "
        "values:\n\n" + markdown_table(("file", "checksum"), weights.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _draws_texts(config: Config) -> bool:
    return config.model.condition == "text"


def _tags(kind: str) -> list[str]:
    own = [NAMES[kind].lower(), f"arxiv:{PAPERS[kind]}"] if kind else []
    return ["image-generation", "next-scale-prediction", "jax", "flax", *own]


def _about(config: Config, name: str, *, trained: bool) -> str:
    """A sentence on the model, and one on its data, which imported weights do not tell."""
    model, tokenizer = config.model, config.tokenizer
    height, width = tokenizer.image_size
    scales = ", ".join(f"{h}x{w}" for h, w in tokenizer.scales)
    of = "texts" if _draws_texts(config) else f"{model.num_classes} classes"
    data = f" It was trained on `{config.data.name}`." if trained else ""
    return (
        f"{name} of depth {model.depth} and width {model.width} that draws {of} in {width}x"
        f"{height} pixels, scale by scale: {scales} tokens.{data}"
    )


def _sampling(config: Config, repository: str, class_names: tuple[str, ...]) -> str:
    """The command that samples, and the same in Python."""
    address = f"{HUB}{repository}"
    if _draws_texts(config):
        asked, what = f'"{PROMPT}"', f'--prompt="{PROMPT}"'
        what += "" if config.data.text_encoder else " --text_encoder=FOLDER"
    else:
        some = [str(label) for label in range(min(SHOWN_CLASSES, config.model.num_classes))]
        asked, what = f"[{', '.join(some)}]", f"--labels={','.join(some)}"
    shown = ", ".join(class_names[:SHOWN_CLASSES])
    return (
        f"## Sampling\n\n```bash\npython -m mvar_jax.sample --workdir={address} {what} --seed=0 "
        "--out=grid.png\n```\n\n```python\nimport mvar_jax\n\n"
        f'model = mvar_jax.load("{address}")\nimages = model.sample({asked}, seed=0).images\n```'
        + (f"\n\nThe classes begin with {shown}; `--classes` lists all." if shown else "")
    )


def _figures(workdir: Workdir) -> Iterator[str]:
    """A section with what was measured, none where nothing was."""
    rows = [
        (name, f"{value:.6g}", file)
        for file, figures in _measured(workdir.path)
        for name, value in figures.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if rows:
        yield "## Figures\n\n" + markdown_table(("figure", "value", "from"), rows)


def _measured(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The reports in a folder and the last rows of its logs, with the names of their files."""
    for name in REPORTS:
        if (folder / name).is_file():
            yield name, _object(folder / name, load_json)
    for name, part in LOGS.items():
        if read_grown(folder / name):
            last = _object(folder / name, lambda file: parse_json(_last_line(file)))
            wanted = (*LOGGED, *(f"validation_{figure}" for figure in LOGGED))
            yield f"training of the {part}", {key: last[key] for key in wanted if key in last}


def _object(file: Path, read: Callable[[Path], Any]) -> Mapping[str, Any]:
    try:
        values = read(file)
    except ValueError:
        values = None
    check(isinstance(values, dict), f"{file}: expected an object of JSON; move it away.")
    return values


def _last_line(file: Path) -> str:
    return (read_grown(file).decode("utf-8").splitlines() or [""])[-1]
