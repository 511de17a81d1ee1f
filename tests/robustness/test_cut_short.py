"""Commands cut short at any moment, by a disk that is full or by SIGKILL: a full disk is told in one line that names
the place, and given again with room, each command ends with the files that it would have written at once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PAGE, ROOM = 4096, 2**26
CONFIG = """
from consistency_jax.config import default


def get_config(arg=None):
    config = default()
    config.update({settings!r})
    return config
"""
# Pairs chosen by the model, training, ranked and written answers, and a row that is left out. Both checkpoints are
# kept, so that a disk may be full at any later file, too.
SETTINGS = {
    "total_steps": 4,
    "batching": {"items": 4, "shapes": 1},
    "optimizer": {"learning_rate": 1e-3},
    "checkpoint": {"every": 2, "keep": 2},
    "logging": {"every": 1},
    "objective": {"name": "dpo"},
    "selection": {"name": "calm", "agreeing": "random"},
    "evaluation": {"bootstrap": 50, "generation": {"splits": ("test",), "max_tokens": 4}},
}
# What each command writes that must be the same, byte for byte.
RESULTS = {
    "train": ("report.json", "skipped.jsonl", "pairs.jsonl", "written/texts.jsonl"),
    "evaluate": ("report.json", "skipped.jsonl"),
    "pairs": ("pairs.jsonl",),
    "export": ("config.json", "model.safetensors", "tokenizer.json", "README.md"),
    "compare": ("compare.json",),
}


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mount(self, size: int = ROOM) -> None:
        """Empty, of `size` bytes."""
        self.unmount()
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        subprocess.run(["mount", *options, str(self.folder)], check=True, capture_output=True)

    def grow(self) -> None:
        options = ["-o", f"remount,size={ROOM}"]
        subprocess.run(["mount", *options, str(self.folder)], check=True, capture_output=True)

    def unmount(self) -> None:
        if os.path.ismount(self.folder):
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def used(self) -> int:
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.fixture(scope="module")
def commands(small_model, questions, tmp_path_factory) -> Callable[[str, Path], subprocess.Popen]:
    """Starts a command that writes into a folder. A finished run is there for those that read one; compiled programs,
    of which a kill may leave half, are kept for these tests alone, and all else in the folder, caches too."""
    home = tmp_path_factory.mktemp("commands")
    (home / "items.jsonl").write_text(questions.read_text() + '{"id": "without a question"}\n')
    settings = SETTINGS | {
        "model": {"path": str(small_model)},
        "data": {"path": str(home / "items.jsonl"), "on_error": "skip"},
    }
    (home / "config.py").write_text(CONFIG.format(settings=settings))
    audit = ["selection.name=", "data.test=('every',)", "evaluation.generation.splits=('every',)"]
    audit = [f"--config.{option}" for option in audit]
    config, done = f"--config={home / 'config.py'}", home / "done"

    def start(name: str, out: Path) -> subprocess.Popen:
        arguments = {
            "train": [config, f"--workdir={out}"],
            "evaluate": [config, f"--workdir={out}", *audit],
            "pairs": [config, f"--out={out / 'pairs.jsonl'}"],
            "export": [f"--workdir={done}", f"--out={out}"],
            "compare": [f"--out={out}", str(done), str(home / "other")],
        }[name]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "CONSISTENCY_CACHE": str(out.parent / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(home / "compiled"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", f"consistency_jax.{name}", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    finish(start("train", done))
    shutil.copytree(done, home / "other")
    changed = (done / "config.json").read_text().replace('"seed": 0', '"seed": 1')
    (home / "other" / "config.json").write_text(changed)
    return start


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    """What it says on stderr, ended with the code `expected`."""
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == expected, output + errors
    return errors


def written(name: str, out: Path) -> dict[str, bytes]:
    return {result: (out / result).read_bytes() for result in RESULTS[name]}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk")
    try:
        disk.mount()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    yield disk
    disk.unmount()


@pytest.mark.parametrize("name", RESULTS)
def test_a_full_disk_is_told_and_more_room_is_enough(commands, disk: Disk, name: str) -> None:
    out, draw = disk.folder / "out", random.Random(7)
    finish(commands(name, out))
    # Checkpoints of one run may take a twentieth more or less than another's: their parts come in another order.
    expected, needed = written(name, out), 9 * disk.used() // PAGE // 10
    early = [draw.randrange(1, needed // 4 + 1) for _ in range(3)]  # where many small files are written
    late = [draw.randrange(needed // 4, needed) for _ in range(3 if name == "train" else 1)]
    for pages in [*early, *late, needed]:
        disk.mount(pages * PAGE)
        *_, told = finish(commands(name, out), expected=1).splitlines()
        assert told.startswith("error: ")
        assert str(disk.folder) in told, f"{pages} pages: {told}"
        assert ".partial" not in told, told
        assert "No space left on device" in told
        assert "free some space" in told
        disk.grow()
        assert "Traceback" not in finish(commands(name, out))
        assert written(name, out) == expected


def names_under(folder: Path) -> set[tuple[str, str]]:
    """(folder, name) of all below; unlike `rglob`, `os.walk` goes on where a folder vanishes meanwhile."""
    return {(parent, name) for parent, folders, files in os.walk(folder) for name in (*folders, *files)}


@pytest.mark.parametrize("name", RESULTS)
def test_a_kill_while_files_are_written(commands, tmp_path: Path, name: str) -> None:
    unbroken, out, draw = tmp_path / "unbroken" / "out", tmp_path / "killed" / "out", random.Random(8)
    finish(commands(name, unbroken))
    codes = []
    for _ in range(4):
        process = commands(name, out)
        before = names_under(out.parent)
        while process.poll() is None and names_under(out.parent) == before:
            time.sleep(0.001)
        time.sleep(draw.random() * (2 if name == "train" else 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        codes.append(process.returncode)
    assert -signal.SIGKILL in codes
    assert "Traceback" not in finish(commands(name, out))
    assert written(name, out) == written(name, unbroken)
    assert name != "train" or not list(out.rglob("*.partial"))
