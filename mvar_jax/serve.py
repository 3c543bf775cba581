"""Serves a page for the browser: draws, edits and compares cache policies, scale by scale.

    python -m mvar_jax.serve --workdir=runs/shapes
    python -m mvar_jax.serve --workdir=runs/shapes --workdir=runs/digits --port=8001

Every `--workdir` is a model to choose on the page; one at a time is in memory. The page is at
http://127.0.0.1:8000/, for this machine alone; `--host` names another address to listen on, and
`--name` a name that browsers open it by, as that of a reverse proxy.
`--profile` is for cache policies that need one, `--text_encoder` for models of texts.
"""

import importlib.util
from functools import partial

from absl import flags

from mvar_jax import cli
from mvar_jax.api import load
from mvar_jax.checks import check, install_command
from mvar_jax.sampling import Model


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_multi_string("workdir", None, "Directory of a trained model.", required=True)
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
    flags.DEFINE_multi_string("name", [], "Name that browsers open the page by, as of a proxy.")
    flags.DEFINE_integer("port", 8000, "Port, 0 for any.", lower_bound=0, upper_bound=65535)
    flags.DEFINE_string("text_encoder", None, "Folder of a T5, or wordllama, to read prompts.")
    cli.define_profile()
    cli.define_verify()


def main() -> None:
    """Checks what is offered, listens and serves."""
    for package in ("starlette", "uvicorn"):
        check(
            importlib.util.find_spec(package) is not None,
            f"{package}: the package is not installed; install it by {install_command('serve')}.",
        )
    from mvar_jax.serving import server  # noqa: PLC0415  it imports them
    from mvar_jax.serving.command import command  # noqa: PLC0415
    from mvar_jax.serving.drawing import Drawer  # noqa: PLC0415
    from mvar_jax.serving.models import Models  # noqa: PLC0415
    from mvar_jax.serving.offer import Offer  # noqa: PLC0415

    values = flags.FLAGS
    offers = [Offer.of(workdir) for workdir in values.workdir]
    profile, names = cli.get_profile(), (values.host, *values.name)
    for name in values.name:
        server.check_name(name)
    listening = server.listen(values.host, values.port)
    models = Models(_load, profile)
    repeats = partial(command, profile=values.profile, text_encoder=values.text_encoder)
    drawer = Drawer(models, repeats)
    with server.served(drawer, offers, names) as application:
        print(server.address(listening), flush=True)
        server.run(application, listening)


def _load(workdir: str, texts: bool) -> Model:
    """The model of a working directory; the text encoder is for one of texts."""
    encoder = flags.FLAGS.text_encoder if texts else None
    return load(workdir, text_encoder=encoder, verify=cli.get_verify())


if __name__ == "__main__":
    cli.run(main, define_flags)
