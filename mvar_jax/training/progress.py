"""Progress of a run and the time left, on stderr: a bar on a terminal, otherwise lines."""

import sys
import time

import jax
from tqdm import tqdm

from mvar_jax.training.metrics import Row
from mvar_jax.training.stopwatch import Stopwatch

SHOWN = (
    *("loss", "accuracy", "psnr", "lpips", "discriminator_loss", "usage_least"),
    *("validation_loss", "images_per_second", "mfu"),
)


class Progress:
    """Shows the progress of a run. Use it in a `with` block.

    `label` names the run, which starts after `step` of `total` steps. The time left is estimated
    from all the time so far, with validation, checkpoints and pictures, but without the clock's
    phase "compile". Only process 0 prints.
    """

    def __init__(self, label: str, step: int, total: int, *, clock: Stopwatch):
        self._label, self._step, self._total, self._clock = label, step, total, clock
        self._first, self._start = step, self._seconds()
        self._bar, self._speaks = None, jax.process_index() == 0
        if self._speaks and sys.stderr.isatty():
            self._bar = tqdm(desc=label, initial=step, total=total, unit="step")
        if step >= total:
            self.say(f"finished at step {step} of {total}, nothing to do")
        elif step:
            self.say(f"resuming at step {step} of {total}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """Counts a finished step."""
        self._step += 1
        if self._bar is not None:
            self._bar.update()
            if self._step == self._first + 1:
                self._bar.unpause()  # its time per step starts after the first step

    def report(self, row: Row) -> None:
        """Shows metrics of the latest step: beside the bar, or as a line.

        Seconds a step are the row's, as its images per second are: without validation and so on.
        """
        metrics = {name: f"{row[name]:.4g}" for name in SHOWN if row.get(name) is not None}
        if row.get("skipped_in_a_row"):
            metrics["skipped in a row"] = str(row["skipped_in_a_row"])
        if self._bar is not None:
            self._bar.set_postfix(metrics)
            return
        values = ", ".join(f"{name} {value}" for name, value in metrics.items())
        seconds = row.get("step_seconds")  # none where the only step since the last row compiled
        pace = "" if seconds is None else f"{seconds:.3g} s a step, "
        self.say(f"step {self._step}/{self._total}, {values} ({pace}{self._time_left()} left)")

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._speaks:
            tqdm.write(f"{self._label}: {text}", file=sys.stderr)
            sys.stderr.flush()

    def _time_left(self) -> str:
        pace = (self._seconds() - self._start) / (self._step - self._first)
        return tqdm.format_interval(pace * (self._total - self._step))

    def _seconds(self) -> float:
        return time.monotonic() - self._clock.seconds.get("compile", 0.0)
