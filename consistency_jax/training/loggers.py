"""Where the numbers of a run go: metrics.jsonl, TensorBoard, Weights & Biases."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


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
