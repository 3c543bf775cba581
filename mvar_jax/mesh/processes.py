"""Multi-process runs: joining the processes, and work that only process 0 does."""

import os
import sys
import threading
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mvar_jax.array_types import HostArray
from mvar_jax.checks import check, describe_os_error, first_line
from mvar_jax.mesh.axes import describe_mesh

TRY_AGAIN = 75  # exit code of failures that a retry may fix (EX_TEMPFAIL of sysexits.h)
MESSAGE_BYTES = 4096  # of a string that process 0 broadcasts


def join_cluster(
    timeout: int,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run; call it before anything uses a device.

    Without a coordinator JAX detects the cluster: SLURM, Open MPI, Cloud TPU or GKE. Otherwise
    process 0 is reached at `coordinator`, "HOST:PORT". If some processes have not joined after
    `timeout` seconds, prints one sentence to stderr and ends this process with exit code 75, since
    the runtime's wait cannot be interrupted.

    Raises ValueError if no cluster is detected, and for an invalid address or numbers.
    """
    _check_address(coordinator, num_processes, process_id)
    watch = threading.Timer(timeout, _give_up, (timeout, coordinator))
    watch.daemon = True
    watch.start()
    try:
        # JAX's own time limit would abort the process with a stack trace, so ours is shorter.
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

    For work that must be done once, and for checks that read many files. A ValueError or OSError of
    `make` is raised in all processes, as a ValueError: otherwise the others would wait forever.
    """
    _broadcast("")  # connects the processes; their time limit for this is shorter than for `make`
    answer, refusal = "", ""
    if jax.process_index() == 0:
        try:
            answer = make() or ""
        except ValueError as error:
            refusal = str(error)
        except OSError as error:
            refusal = describe_os_error(error)
    answer, refusal = _broadcast(answer), _broadcast(refusal)
    if refusal:
        raise ValueError(refusal)
    return answer


def on_host(array: HostArray) -> np.ndarray:
    """The whole array on the host of every process, which all of them ask for together."""
    if isinstance(array, jax.Array):
        if not (array.is_fully_addressable or array.is_fully_replicated):
            array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def _broadcast(text: str) -> str:
    """The text of process 0, in all processes."""
    if jax.process_count() == 1:
        return text
    sent = np.zeros(MESSAGE_BYTES, np.uint8)
    encoded = text.encode()[:MESSAGE_BYTES]
    sent[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    received = bytes(multihost_utils.broadcast_one_to_all(sent))
    return received.rstrip(b"\0").decode(errors="replace")


def announce(mesh: Mesh) -> None:
    """Prints this process's devices and the mesh to stderr, if there is more than one device."""
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
    address = f" at {coordinator}" if coordinator else ""
    sys.stderr.write(
        f"error: not all processes joined{address} within {timeout} seconds; did you start it on "
        "all workers? Give them longer by --join_timeout.\n"
    )
    sys.stderr.flush()
    os._exit(TRY_AGAIN)
