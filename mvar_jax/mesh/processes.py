"""Several processes that train as one: joining them, and what only one of them does."""

import os
import sys
import threading
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mvar_jax.checks import check, describe_os_error, first_line
from mvar_jax.mesh.axes import describe_mesh

TRY_AGAIN = 75  # exit code of what may go well the next time (EX_TEMPFAIL of sysexits.h)
MESSAGE_BYTES = 4096  # of a sentence that processes tell each other


def join_cluster(
    timeout: int,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run; call it before anything asks for a device.

    Without a coordinator the cluster is the one that JAX finds by itself: of SLURM, Open MPI,
    Cloud TPU or GKE. Otherwise process 0 is reached at `coordinator`, "HOST:PORT". When not all
    processes have come within `timeout` seconds, says so in one sentence on stderr and ends this
    process with exit code 75: a runtime that still waits cannot be interrupted, only left.

    Raises ValueError when there is no cluster to be found, and for names or numbers that cannot be.
    """
    _check_address(coordinator, num_processes, process_id)
    watch = threading.Timer(timeout, _give_up, (timeout, coordinator))
    watch.daemon = True
    watch.start()
    try:
        # Its own limit would abort the process with a stack trace; ours comes first.
        jax.distributed.initialize(
            coordinator, num_processes, process_id, initialization_timeout=2 * timeout + 60
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"--distributed: cannot join the other processes ({first_line(error)}); start it on "
            "all workers of a SLURM, TPU or GKE job, or name them by --coordinator=HOST:PORT, "
            "--num_processes and --process_id."
        ) from None
    finally:
        watch.cancel()


def on_first_process(make: Callable[[], str | None]) -> str:
    """Calls `make` in process 0 only, after a barrier, and returns its string in all processes.

    For what must happen once, and for checks that read a lot. A ValueError or OSError of `make` is
    raised in all processes, as a ValueError: if one alone failed, the others would wait for it.
    """
    _tell("")  # connects the processes, which wait less long for that than for what follows
    answer, refusal = "", ""
    if jax.process_index() == 0:
        try:
            answer = make() or ""
        except ValueError as error:
            refusal = str(error)
        except OSError as error:
            refusal = describe_os_error(error)
    answer, refusal = _tell(answer), _tell(refusal)
    if refusal:
        raise ValueError(refusal)
    return answer


def _tell(text: str) -> str:
    """The first process's text, in all."""
    if jax.process_count() == 1:
        return text
    told = np.zeros(MESSAGE_BYTES, np.uint8)
    encoded = text.encode()[:MESSAGE_BYTES]
    told[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    received = bytes(multihost_utils.broadcast_one_to_all(told))
    return received.rstrip(b"\0").decode(errors="replace")


def announce(mesh: Mesh) -> None:
    """Says on stderr what this process has found, where there is more than one device."""
    if mesh.size > 1:
        kind = jax.devices()[0].device_kind
        sys.stderr.write(
            f"process {jax.process_index()}/{jax.process_count()}: {jax.local_device_count()} "
            f"local, {jax.device_count()} global devices ({kind}), mesh {describe_mesh(mesh)}\n"
        )
        sys.stderr.flush()


def _check_address(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    check(
        all(given) or not any(given),
        f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id}: "
        "expected all three of them, or none to find the cluster.",
    )
    if coordinator is None or num_processes is None or process_id is None:
        return
    host, _, port = coordinator.rpartition(":")
    check(
        bool(host) and port.isdecimal() and 0 < int(port) < 2**16,
        f"--coordinator: got {coordinator!r}, expected HOST:PORT of process 0.",
    )
    check(
        0 <= process_id < num_processes,
        f"--process_id: got {process_id}, expected 0 to {num_processes - 1} "
        f"(--num_processes={num_processes}).",
    )


def _give_up(timeout: int, coordinator: str | None) -> None:
    place = f" at {coordinator}" if coordinator else ""
    sys.stderr.write(
        f"error: not all processes joined{place} within {timeout} seconds; did you start it on "
        "all workers? Give them longer by --join_timeout.\n"
    )
    sys.stderr.flush()
    os._exit(TRY_AGAIN)
