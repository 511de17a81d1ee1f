"""safetensors: the open files of a folder, name -> shape at once, values when asked; and how one is written."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from consistency_jax.errors import CheckpointError
from consistency_jax.runtime.files import complete_path, read_json, readable

FLOATS = ("F64", "F32", "F16", "BF16")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors by name as a safetensors file, complete or not at all.

    Raises: OSError.
    """
    with complete_path(path) as partial:
        save_file(dict(tensors), partial, metadata={"format": "pt"})
        readable(partial)


class TensorFiles:
    """All tensors of a folder. A context manager.

    Attributes:
      path: of the folder.
      described_by: what says how the tensors should be, for messages.
      names: of all tensors.
      coded: names of those that hold no floats of 16 bits or more.
      doubled: names that several files have.
    """

    described_by = "config.json"

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.doubled: list[str] = []
        self.coded: set[str] = set()
        self._open: list[Any] = []
        self._slices: dict[str, Any] = {}
        try:
            for file in _weight_files(folder):
                self._add(file)
        except BaseException:
            self.__exit__()
            raise

    def _add(self, file: Path) -> None:
        try:
            handle = safe_open(file, framework="numpy")
            handle.__enter__()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is truncated or not a safetensors file: {error}") from error
        self._open.append(handle)
        for name in handle.keys():  # noqa: SIM118 (no mapping)
            if name in self._slices:
                self.doubled.append(name)
            self._slices[name] = handle.get_slice(name)
            if self._slices[name].get_dtype() not in FLOATS:
                self.coded.add(name)

    def __enter__(self) -> "TensorFiles":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._open:
            handle.__exit__(None, None, None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._slices)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slices[name].get_shape())

    def read(self, name: str, index: tuple[Any, ...] = (...,)) -> np.ndarray:
        """The part `index` of a tensor, as it is stored."""
        return self._slices[name][index]

    def nbytes(self, name: str) -> int:
        bits = re.search(r"\d+", self._slices[name].get_dtype())  # F32, BF16, F8_E4M3, BOOL
        return math.prod(self.shape(name)) * (int(bits[0]) // 8 if bits else 1)


def _weight_files(folder: Path) -> list[Path]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():  # before an index that a save in shards may have left: as transformers has it
        return [single]
    if index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
            if not all(isinstance(name, str) for name in names):
                raise TypeError("weight_map must name files")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} is not an index of safetensors shards: {error!r}") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder} lacks {len(missing)} of {len(names)} shards: {some(missing)}")
        return [folder / name for name in names]
    other = sorted(path.name for path in folder.glob("*.bin"))
    mend = "; convert its .bin files to safetensors first" if other else ""
    if found := sorted(path.name for path in folder.glob("*.gguf")):
        mend = f"; give the file itself: {folder / found[0]}"
    raise CheckpointError(f"{folder} has neither model.safetensors nor model.safetensors.index.json{mend}")


def some(names: list[str], most: int = 8) -> str:
    """The first of a long list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
