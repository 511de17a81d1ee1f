"""Preparing data sets: runs that start at once take turns."""

import subprocess
import sys
import time
from pathlib import Path

import source_files

from consistency_jax.data.sources import load_items


def test_runs_that_start_at_once_prepare_one_data_set(tmp_path: Path):
    path = source_files.multijail(tmp_path / "set").parent
    script = PREPARE.format(path=str(path), folder=str(tmp_path / "c"), now=time.time() + 8)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [(*process.communicate(timeout=240), process.returncode) for process in started]
    for said, wrong, status in ended:
        assert status == 0, wrong
        assert int(said) == len(load_items("multijail", path=path))


# Both look for the data set at about the same moment, and making it takes a second.
PREPARE = """
import time
from consistency_jax.data.sources import builder, load_items

def slow(*args, **options):
    time.sleep(1)
    return load_items(*args, **options)

builder.load_items = slow
time.sleep(max(0, {now} - time.time()))
made = builder.tfds_builder("multijail", path={path!r}, splits=("every",), folder={folder!r})
print(len(made.as_data_source("every")))
"""
