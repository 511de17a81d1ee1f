"""A command as its user watches it: what it runs, where the time until its first step goes, a profile of some steps.

devices   8 x TPU v5 lite, mesh data 8 x fsdp 1 x tensor 1
...
    15 s  building trees
first step after 31.0 s: data 3.1 s, model 12.0 s, trees 2.2 s, compiling 13.7 s
"""

import itertools
import re
import threading
import time
from pathlib import Path
from typing import Any

import jax

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.files import in_bucket
from consistency_jax.runtime.processes import is_main
from consistency_jax.runtime.progress import span


def profiled_steps(profile: str, workdir: Path, total: int | None = None) -> range:
    """The steps that --profile=FIRST:LAST names, counted from 1; none for "".

    Args:
      total: steps that there are, where that is known.

    Raises:
      ConfigError: what names no steps, or a workdir that a trace cannot be written to.
    """
    if not profile:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", profile)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise ConfigError(
            f"--profile={profile!r} should be FIRST:LAST, two steps counted from 1, such as 10:12"
        )
    if total is not None and last > total:
        raise ConfigError(f"--profile={profile} names a step behind the last one, {total}")
    if in_bucket(workdir):
        raise ConfigError(
            f"--profile writes into the workdir, and cannot in a bucket ({workdir}); leave it out"
        )
    return range(first, last + 1)


class Watch:
    """What a command prints at its start, when its first step is done, and what it traces. Of several processes the
    first does so, of its own devices.

    Args:
      profile: steps to trace, with JAX's profiler.
      folder: for the traces, which TensorBoard and Perfetto read.
      unit: what a step is called.
    """

    def __init__(self, profile: range = range(0), folder: Path | None = None, unit: str = "step"):
        self._profile, self._folder, self._unit = profile, folder, unit
        self._first = self._last = time.monotonic()
        self._part = ""
        self._spent: dict[str, float] = {}
        self._reached = False
        self._counted, self._lock = itertools.count(1), threading.Lock()
        self._done = 0  # steps that ended
        self._trace: Path | None = None  # what is being traced
        self._mark: Any = None  # of the step that is under way, there
        self._traced: set[Path] = set()

    def tell(self, label: str, text: str) -> None:
        """One of the lines at the start."""
        print(f"{label:<10}{text}", flush=True)

    def part(self, name: str, doing: str = "") -> None:
        """The time from now on goes to that part of the command.

        Args:
          doing: what is told of it, behind the time since the start.
        """
        now = time.monotonic()
        if self._part:
            self._spent[self._part] = self._spent.get(self._part, 0.0) + now - self._last
        self._part, self._last = name, now
        if doing:
            print(f"{span(now - self._first):>8}  {doing}", flush=True)

    def reached(self, what: str) -> None:
        """Prints where the time until now went, once; nothing where no part was told."""
        if self._spent and not self._reached:
            parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self._spent.items())
            print(f"{what} after {sum(self._spent.values()):.1f} s: {parts}", flush=True)
        self._reached = True

    def begin(self, step: int | None = None, of: str = "", after: Any = None) -> None:
        """A step begins, the next one unless it says which.

        Args:
          of: the stage that it is of, whose traces have a folder of their own, and steps a mark in them.
          after: arrays of the step before, which are waited for before a trace starts.
        """
        with self._lock:
            step = next(self._counted) if step is None else step
            folder = self._folder and self._folder / of
            if step in self._profile and not self._trace and folder not in self._traced and is_main():
                jax.block_until_ready(after)
                jax.profiler.start_trace(folder)
                self._trace = folder
        if self._trace and of:
            self._mark = jax.profiler.StepTraceAnnotation(of, step_num=step)
            self._mark.__enter__()

    def end(self, outputs: Any, step: int | None = None) -> None:
        """A step is done, or dispatched and done when its outputs are there."""
        self._done = self._done + 1 if step is None else step
        if self._mark:
            self._mark = self._mark.__exit__(None, None, None)
        if not self._reached and self._part:
            jax.block_until_ready(outputs)
            self.part("")
            self.reached(f"first {self._unit}")
        if self._trace and self._done >= self._profile[-1]:
            jax.block_until_ready(outputs)
            self.stop()

    def stop(self) -> None:
        """Ends a trace that is under way."""
        if self._trace:
            jax.profiler.stop_trace()
            print(f"profile: {self._trace}", flush=True)
            self._traced.add(self._trace)
            self._trace = None

    def close(self) -> None:
        """The command is done; says where no step was profiled that was to be."""
        self.stop()
        if self._profile and not self._traced and is_main():
            first, last = self._profile[0], self._profile[-1]
            print(f"profile: none of {self._unit} {first} to {last} was computed by this command")
