"""Where things that several runs share are kept: prepared data sets, base models, reference tables."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$CONSISTENCY_CACHE, else the user's cache folder."""
    named = os.environ.get("CONSISTENCY_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "consistency_jax"
