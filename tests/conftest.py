"""Fixtures shared by every test: where the third-party data lies."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of third-party data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CONSISTENCY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set CONSISTENCY_DATA to run this test")
    return folder
