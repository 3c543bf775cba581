"""Ctrl-C: a program ends at once, whatever it is doing."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading

INTERRUPTED = 130  # exit code, as shells give it


def end_at_once_when_interrupted() -> None:
    """Ends the process when SIGINT comes, with "stopped", nothing lost of what it has printed.

    Python raises KeyboardInterrupt in the main thread once that is back from what it called; from
    XLA, in the middle of compiling, that is half a minute later or a segmentation fault. A thread
    that waits for the signal ends the process instead. What it was writing is left as by a kill:
    files are there whole or not at all. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGINT, lambda *_: None)  # without one the number is not written
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), daemon=True).start()


def _wait(reading: int) -> None:
    while os.read(reading, 1) != bytes([signal.SIGINT]):
        pass
    with contextlib.suppress(Exception):
        for child in multiprocessing.active_children():
            child.terminate()
        sys.stdout.flush()
        sys.stderr.write("\nstopped\n")
        sys.stderr.flush()
    os._exit(INTERRUPTED)
