"""How far long work is: one line on the terminal, with rates and the time left."""

import sys
import time

from tqdm import tqdm

from consistency_jax.runtime.processes import is_main

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # without tqdm's own rate, of steps dispatched


def span(seconds: float) -> str:
    """A time as one reads it: 95 s, 23 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def readable(value: float) -> str:
    """A rate: two digits that count below 10, whole above."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


class Progress:
    """A bar with rates and time left on a terminal, a plain line every few seconds elsewhere.

    Rates are of work that has ended, by a clock that starts with the first step, which is mostly compilation and is not
    counted. Of several processes one shows it.

    Args:
      first: steps that are done.
      under_way: steps that others may have begun before the clock starts. They are not counted either, so that a rate
        is never of work that was done before.
      every_s: seconds between plain lines.
      peak: FLOP/s of all devices, where they are known.
    """

    def __init__(
        self,
        what: str,
        total: int,
        first: int = 0,
        every_s: float = 10.0,
        peak: float | None = None,
        under_way: int = 0,
    ):
        self._what, self._total, self._done = what, total, first
        self._timed = first + 1 + under_way  # the last step that is not counted
        self._start: float | None = None  # when the first step was done or dispatched
        self._last, self._every_s = time.monotonic(), every_s
        self._begun: dict[str, float] = {}  # what was counted, and may not have ended
        self._ended: dict[str, float] = {}
        self._ended_steps, self._elapsed = 0, 1e-9  # counted ones, and the seconds until then
        self._values: dict[str, str] = {}
        self._peak = peak
        self._shown = is_main()
        terminal = self._shown and sys.stderr.isatty()
        self._bar = (
            tqdm(total=total, initial=first, desc=what, dynamic_ncols=True, bar_format=BAR)
            if terminal
            else None
        )

    def advance(self, *, ended: bool = True, **counts: float) -> None:
        """One more step.

        Args:
          ended: it was waited for, and with it all before it; else it was dispatched, and rates stay as they are.
          counts: amounts of its work (items, tokens, useful flops), shown as rates.
        """
        self._done += 1
        now = time.monotonic()
        self._start = self._start or now
        if self._done > self._timed:
            for name, count in counts.items():
                self._begun[name] = self._begun.get(name, 0) + count
            if ended:
                self._ended, self._ended_steps = dict(self._begun), self._done - self._timed
                self._elapsed = max(1e-9, now - self._start)
        if self._bar:
            self._bar.update()
        elif self._shown and (now - self._last > self._every_s or (self._done >= self._total and ended)):
            self._last = now
            values = [f"{name} {value}" for name, value in self._values.items()]
            told = [*values, *(f"{rate} {name}" for name, rate in self._told().items())]
            print(
                ", ".join([f"{self._what}: {self._done}/{self._total}", *told]), file=sys.stderr, flush=True
            )

    def show(self, **values: str) -> None:
        """Values that stand beside the rates, until others come."""
        self._values = values
        if self._bar:
            self._bar.set_postfix(values | self._told(), refresh=False)

    def rates(self) -> dict[str, float]:
        """{"items_per_s": ..., "tokens_per_s": ...} of what has ended; of flops "mfu", in percent of the peak."""
        rates = {f"{name}_per_s": count / self._elapsed for name, count in self._ended.items()}
        flops = rates.pop("flops_per_s", None)
        return rates | ({"mfu": 100 * flops / self._peak} if flops and self._peak else {})

    def _told(self) -> dict[str, str]:
        rates = self.rates()
        told = {"MFU": f"{rates.pop('mfu'):.1f} %"} if "mfu" in rates else {}
        told = {name.replace("_per_s", "/s"): readable(rate) for name, rate in rates.items()} | told
        if self._ended_steps and self._done < self._total:
            told["left"] = span((self._total - self._done) * self._elapsed / self._ended_steps)
        return told

    def close(self) -> None:
        if self._bar:
            self._bar.close()
