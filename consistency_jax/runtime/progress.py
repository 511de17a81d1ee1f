"""How far long work is: one line on the terminal, with rates and the time left."""

import sys
import time

from tqdm import tqdm

from consistency_jax.runtime.processes import is_main


class Progress:
    """A bar with rates and time left on a terminal, a plain line every few seconds elsewhere.

    The clock starts when the first step ends: that one is mostly compilation. Of several processes one shows it.

    Args:
      first: steps that are done.
      every_s: seconds between plain lines.
      peak: FLOP/s of all devices, where they are known.
    """

    def __init__(
        self, what: str, total: int, first: int = 0, every_s: float = 10.0, peak: float | None = None
    ):
        self._what, self._total, self._done = what, total, first
        self._timed: int | None = None  # steps that were done when the clock was started
        self._start, self._last, self._every_s = time.monotonic(), time.monotonic(), every_s
        self._counts: dict[str, float] = {}
        self._peak = peak
        self._shown = is_main()
        terminal = self._shown and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=first, desc=what, dynamic_ncols=True) if terminal else None

    def advance(self, steps: int = 1, **counts: float) -> None:
        """`counts` are amounts of work (items, tokens, useful flops), shown as rates."""
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
            rates = "".join(f", {rate} {name}" for name, rate in self._told().items())
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
            self._bar.set_postfix(values | self._told(), refresh=False)

    @property
    def elapsed(self) -> float:
        return max(1e-9, time.monotonic() - self._start)

    def rates(self) -> dict[str, float]:
        """{"items_per_s": ..., "tokens_per_s": ...}; of flops "mfu", in percent of the peak."""
        elapsed = self.elapsed
        rates = {f"{name}_per_s": count / elapsed for name, count in self._counts.items()}
        flops = rates.pop("flops_per_s", None)
        return rates | ({"mfu": 100 * flops / self._peak} if flops and self._peak else {})

    def _told(self) -> dict[str, str]:
        rates = self.rates()
        mfu = {"MFU": f"{rates.pop('mfu'):.1f} %"} if "mfu" in rates else {}
        return {name.replace("_per_s", "/s"): f"{rate:,.0f}" for name, rate in rates.items()} | mfu

    def close(self) -> None:
        if self._bar:
            self._bar.close()
