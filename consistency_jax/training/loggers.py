"""Where the numbers of a run go: metrics.jsonl, TensorBoard, Weights & Biases."""

import contextlib
import importlib.util
import json
import math
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.files import in_bucket, named, parse_json, write_text
from consistency_jax.runtime.processes import is_main


class MetricsLog:
    """Appends one JSON object a line to workdir/metrics.jsonl, and mirrors it to TensorBoard (not in buckets) and W&B.
    Of several processes the first keeps it.

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
        self._stage, self._lines, self._writer, self._wandb = stage, None, None, None
        if not is_main():
            return
        self._path = path = workdir / "metrics.jsonl"
        _drop_later_lines(path, stage, first_step)
        self._lines = _WholeFile(path) if in_bucket(path) else path.open("a", encoding="utf8")
        try:
            if tensorboard and not in_bucket(path):  # its files grow, too
                self._writer = _TensorBoard(workdir / "tensorboard" / stage, first_step)
            if wandb:
                self._wandb = _start_wandb(wandb, workdir)
                self._wandb.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        except BaseException:
            self.close()
            raise

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line. `values` are plain numbers; each stage has a TensorBoard run of its own. What is not known (NaN:
        accuracy of questions without labels) is left out."""
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if self._lines:
            line = {"step": step, "stage": self._stage, **{k: _short(v) for k, v in values.items()}}
            with named(self._path):
                self._lines.write(json.dumps(line) + "\n")
                self._lines.flush()
        if self._writer:
            self._writer.write(step, values)
        if self._wandb:
            # Each stage counts its own steps, and W&B's own count may not go back.
            own = {"step": step, **values}
            self._wandb.log({f"{self._stage}/{name}": value for name, value in own.items()})

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # each, whatever becomes of the others
            if self._wandb:
                stack.callback(self._wandb.finish)
            if self._writer:
                stack.callback(self._writer.close)
            if self._lines:
                stack.enter_context(named(self._path))
                stack.callback(self._lines.close)


class _TensorBoard:
    """Events of a folder, written by the one who gives them: `SummaryWriter` leaves that to a thread, which a full disk
    ends without a word, and then waits for it for ever."""

    EVERY = 30.0  # seconds until what was written is on the disk, which takes milliseconds

    def __init__(self, folder: Path, first_step: int):
        # Where torch is installed it would be imported, too, for seconds, and for nothing that is used here.
        absent = sys.modules.setdefault("torch", None) is None
        try:
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2
        finally:
            if absent:
                del sys.modules["torch"]

        self._folder, self._scalar, self._event = folder, summary.scalar, event_pb2.Event
        self._flushed = -self.EVERY
        folder.mkdir(parents=True, exist_ok=True)
        before = any(folder.iterdir())
        with named(folder):
            self._file = event_file_writer.EventsWriter(str(folder / "events"))
            if before:  # what a killed run had written of later steps is not shown
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._write(first_step + 1, session_log=start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with named(self._folder):
            for name, value in values.items():
                self._write(step, summary=self._scalar(name, value))
            if time.monotonic() - self._flushed > self.EVERY:
                self._file.flush()
                self._flushed = time.monotonic()

    def _write(self, step: int, **what: Any) -> None:
        self._file.write_event(self._event(wall_time=time.time(), step=step, **what))

    def close(self) -> None:
        with named(self._folder):
            self._file.close()


class _WholeFile:
    """A text file in a bucket, which is written anew whenever it has grown."""

    def __init__(self, path: Path):
        self._path = path
        self._text = path.read_text(encoding="utf8", errors="replace") if path.exists() else ""

    def write(self, text: str) -> None:
        self._text += text

    def flush(self) -> None:
        write_text(self._path, self._text)

    def close(self) -> None:
        if self._text:
            self.flush()


def _short(value: float) -> float:
    return float(f"{float(value):.7g}")


def metric_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, without what a kill or a disk has damaged."""
    found = []
    for line in path.read_text(encoding="utf8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = parse_json(line)
            if isinstance(record, dict) and "stage" in record and isinstance(record.get("step"), int):
                found.append(record)
    return found


def _drop_later_lines(path: Path, stage: str, first_step: int) -> None:
    if path.exists():
        kept = [line for line in metric_lines(path) if line["stage"] != stage or line["step"] <= first_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def check_wandb(project: str) -> None:
    """Refuses a project where there is nothing to log to it with.

    Raises:
      ConfigError: wandb is not installed.
    """
    if project and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "logging.wandb is set but wandb is not installed: pip install 'consistency_jax[wandb]', "
            "or set --config.logging.wandb="
        )


def _start_wandb(project: str, workdir: Path) -> Any:
    check_wandb(project)
    import wandb

    path = workdir / "wandb_id"  # one W&B run a workdir, however often it is resumed
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:12])
    return wandb.init(
        project=project,
        dir=None if in_bucket(workdir) else str(workdir),
        name=workdir.name,
        id=path.read_text(),
        resume="allow",
    )
