"""A working directory's weights as an official state dict."""

from pathlib import Path

import jax

from mvar_jax.array_types import Params
from mvar_jax.checks import check
from mvar_jax.convert.checks import check_official_tokenizer, official_architecture
from mvar_jax.convert.find_model import TOKENIZERS
from mvar_jax.convert.find_tokenizer import tokenizer_architecture
from mvar_jax.convert.pth import check_writable, write_pth
from mvar_jax.convert.state_dict import Item, make_tensors, tokenizer_state, trunk_state
from mvar_jax.files import written_whole
from mvar_jax.models import build_trunk
from mvar_jax.tensor_files.safetensors import write_safetensors
from mvar_jax.training.adapted import Adapters, load_whole_trunk
from mvar_jax.training.weights import check_learned_from, load_tokenizer
from mvar_jax.workdir import Workdir

SUFFIXES = (".safetensors", ".pth")
WITHIN = {"bsqvae": "vae"}  # the key of a .pth that the official programs look below


def export_weights(
    workdir: Workdir,
    out: Path,
    architecture: str | None = None,
    *,
    adapters: Adapters = (),
    verify: bool = False,
) -> str:
    """Writes the trunk or the tokenizer of a working directory under official names.

    Adapters are merged into the trunk, those given and that which `workdir` may be of.
    The tokenizer is meant by the `architecture` "vqvae" or "bsqvae", and where there is no trunk.
    Buffers are made anew. Returns in words what was written. Raises ValueError, with nothing
    written, for a model that no official file can hold, for a name that does not end in
    .safetensors or .pth and, with `verify`, for checkpoints without a seal.
    """
    check(
        out.suffix in SUFFIXES,
        f"--out: got {out.name!r}, expected a name that ends in {' or '.join(SUFFIXES)}.",
    )
    if out.suffix == ".pth":
        check_writable()
    if architecture in TOKENIZERS or (architecture is None and not workdir.is_trained):
        config = workdir.tokenizer.config()
        check_official_tokenizer(config.tokenizer)
        state = tokenizer_state(config.tokenizer)
        found = tokenizer_architecture(state)
        _check_architecture(architecture, found, workdir.tokenizer.path)
        params = load_tokenizer(config, workdir, verify=verify)
    else:
        found = official_architecture(build_trunk(workdir.config()))
        _check_architecture(architecture, found, workdir.path)
        quantizer = workdir.config().tokenizer.quantizer
        check(
            (found == "infinity") == (quantizer == "bsq"),
            f"tokenizer.quantizer: got {quantizer}, but official models draw bits of texts and "
            "codes of classes; no official file can hold this model.",
        )
        whole = load_whole_trunk(workdir, adapters, verify=verify)
        if whole.base.tokenizer.is_trained:
            check_learned_from(
                whole.base,
                lambda: load_tokenizer(whole.config, whole.base, verify=verify),
                whole.base.tokenizer.path,
            )
        state, params = trunk_state(build_trunk(whole.config)), whole.params
    _write(out, state, jax.device_get(params), WITHIN.get(found))
    return f"{found} of {len(state)} tensors"


def _check_architecture(wanted: str | None, found: str, place: Path) -> None:
    check(
        wanted in (None, found),
        f"--arch: got {wanted}, but {place} holds the weights of {found}.",
    )


def _write(out: Path, state: dict[str, Item], params: Params, within: str | None) -> None:
    tensors = make_tensors(state, params)
    with written_whole(out) as draft:
        if out.suffix == ".pth":
            write_pth(draft, tensors, within)
        else:
            about = {name: (item.shape, item.dtype) for name, item in state.items()}
            write_safetensors(draft, about, tensors)
