"""Where the numbers of a run go: metrics.jsonl, TensorBoard, Weights & Biases, and one line on the terminal."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm


class MetricsLog:
    """Appends one JSON object a line to workdir/metrics.jsonl, and mirrors it to TensorBoard and W&B.

    A resumed run continues at `first_step`: lines of later steps, which the killed run had written but which will be
    computed again, are dropped first.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        first_step: int = 0,
        tensorboard: bool = True,
        wandb: str = "",
        stage: str = "",
    ):
        self._stage = stage
        path = workdir / "metrics.jsonl"
        _drop_later_lines(path, stage, first_step)
        self._file = path.open("a", encoding="utf8")
        self._writer = (
            SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step) if tensorboard else None
        )
        self._wandb = _start_wandb(wandb, workdir) if wandb else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line. `values` are plain numbers; the stage's name goes in front of their TensorBoard tags."""
        line = {"step": step, "stage": self._stage, **{k: _short(v) for k, v in values.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(f"{self._stage}/{name}", value, step)
        if self._wandb:
            self._wandb.log({f"{self._stage}/{k}": v for k, v in values.items()}, step=step)

    def close(self) -> None:
        self._file.close()
        if self._writer:
            self._writer.close()
        if self._wandb:
            self._wandb.finish()


def _short(value: float) -> float:
    return float(f"{float(value):.7g}")


def _drop_later_lines(path: Path, stage: str, first_step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a line cut short by a kill
            record = json.loads(line)
            if record.get("stage") != stage or record["step"] <= first_step:
                kept.append(line + "\n")
    path.write_text("".join(kept), encoding="utf8")


def _start_wandb(project: str, workdir: Path) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ImportError(
            "logging.wandb is set but wandb is not installed: pip install 'consistency_jax[wandb]', "
            "or set --config.logging.wandb="
        ) from error
    return wandb.init(project=project, dir=str(workdir), name=workdir.name, resume="allow")


class Progress:
    """A bar with rates and time left on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, what: str, total: int, first: int = 0, every_s: float = 10.0):
        self._what, self._total, self._first, self._done = what, total, first, first
        self._start, self._last, self._every_s = time.monotonic(), time.monotonic(), every_s
        self._counts: dict[str, float] = {}
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=first, desc=what, dynamic_ncols=True) if terminal else None

    def advance(self, steps: int = 1, **counts: float) -> None:
        """`counts` are amounts of work (items, tokens), shown as rates."""
        self._done += steps
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
        if self._bar:
            self._bar.update(steps)
        elif time.monotonic() - self._last > self._every_s or self._done >= self._total:
            self._last = time.monotonic()
            left = (self._total - self._done) * self.elapsed / max(1, self._done - self._first)
            rates = "".join(f", {rate:,.0f} {name}/s" for name, rate in self.rates().items())
            print(
                f"{self._what}: {self._done}/{self._total}{rates}, {left:.0f} s left",
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
