"""What the programs share: flags, compiled programs, errors as one sentence, Ctrl-C.

A program is two functions: `define_flags`, which defines its flags when it runs and not when it
is imported, and `main`, which reads their values from `flags.FLAGS`.

    if __name__ == "__main__":
        cli.run(main, define_flags)

Programs keep what XLA compiles in `~/.cache/mvar_jax/compiled` (below `XDG_CACHE_HOME` where that
is set), so that a second start compiles nothing. `--compilation_cache=DIR` names another folder,
`--compilation_cache=` none. The environment variable `JAX_COMPILATION_CACHE_DIR`, where it is set,
comes before the default folder. Several processes that run as one keep nothing unless the flag
names a folder, which all of them must share: were one alone to find a program there, the others
would compile it for longer than it waits for them.
"""

from mvar_jax.cli.common import (
    define_adapters,
    define_config,
    define_distributed,
    define_json,
    define_policies,
    define_policy,
    define_profile,
    define_verify,
    get_adapters,
    get_config,
    get_indices,
    get_numbers,
    get_policy,
    get_profile,
    get_verify,
    given,
    join,
    json_file,
    output_file,
    output_folder,
    say,
)
from mvar_jax.cli.programs import run, run_command
from mvar_jax.cli.settings import define_settings, get_settings

__all__ = [
    "define_adapters",
    "define_config",
    "define_distributed",
    "define_json",
    "define_policies",
    "define_policy",
    "define_profile",
    "define_settings",
    "define_verify",
    "get_adapters",
    "get_config",
    "get_indices",
    "get_numbers",
    "get_policy",
    "get_profile",
    "get_settings",
    "get_verify",
    "given",
    "join",
    "json_file",
    "output_file",
    "output_folder",
    "run",
    "run_command",
    "say",
]
