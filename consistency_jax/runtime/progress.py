"""How far long work is: one line on the terminal, with rates and the time left."""

import sys
import time

from tqdm import tqdm

from consistency_jax.runtime.processes import is_main


class Progress:
    """A bar with rates and time left on a terminal, a plain line every few seconds elsewhere.

    The clock starts when the first step ends: that one is mostly compilation. Of several processes one shows it.
    """

    def __init__(self, what: str, total: int, first: int = 0, every_s: float = 10.0):
        self._what, self._total, self._done = what, total, first
        self._timed: int | None = None  # steps that were done when the clock was started
        self._start, self._last, self._every_s = time.monotonic(), time.monotonic(), every_s
        self._counts: dict[str, float] = {}
        self._shown = is_main()
        terminal = self._shown and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=first, desc=what, dynamic_ncols=True) if terminal else None

    def advance(self, steps: int = 1, **counts: float) -> None:
        """`counts` are amounts of work (items, tokens), shown as rates."""
        self._done += steps
        if self._timed is None:
            self._timed, self._start = self._done, time.monotonic()
        else:
            for name, count in counts.items():
                self._counts[name] = self._counts.get(name, 0) + count
        if self._bar:
            self._bar.update(steps)
        elif self._shown and (time.monotonic() - self._last > self._every_s or self._done >= self._total):
            self._last = time.monotonic()
            rates = "".join(f", {rate:,.0f} {name}/s" for name, rate in self.rates().items())
            if self._done > self._timed:
                left = (self._total - self._done) * self.elapsed / (self._done - self._timed)
                rates += f", {left:.0f} s left"
            print(
                f"{self._what}: {self._done}/{self._total}{rates}",
                file=sys.stderr,
                flush=True,
            )

    def show(self, **values: str) -> None:
        if self._bar:
            rates = {f"{name}/s": f"{rate:,.0f}" for name, rate in self.rates().items()}
            self._bar.set_postfix(values | rates, refresh=False)

    @property
    def elapsed(self) -> float:
        return max(1e-9, time.monotonic() - self._start)

    def rates(self) -> dict[str, float]:
        return {name: count / self.elapsed for name, count in self._counts.items()}

    def close(self) -> None:
        if self._bar:
            self._bar.close()
