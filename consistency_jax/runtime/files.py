"""Files that are never half there: each appears under its name only when it is complete. On disks and in buckets."""

import contextlib
import errno
import functools
import hashlib
import importlib.util
import io
import json
import math
import os
import re
import socket
import struct
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np
from etils import epath

from consistency_jax.errors import UserError

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # a name of the Hugging Face Hub, and no path
BUCKETS = {"gs": "gcsfs", "s3": "s3fs"}  # scheme -> the package that opens it


def expanded(name: str | Path) -> Path:
    """A path with the home folder in the place of `~`.

    Raises:
      UserError: `~NAME` of a user who is not known here.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name}: {error}; write the whole path") from None


def local(name: str | Path, flag: str) -> Path:
    """The absolute path of a name on this machine's disks.

    Args:
      flag: that names it.

    Raises:
      UserError: an address (gs://...), or as `expanded`.
    """
    if not os.fspath(name):
        raise UserError(f"{flag}= names nothing: give a path")
    if "://" in os.fspath(name):
        raise UserError(
            f"{flag}={name} is an address: give a path on a disk of this machine, and copy from there"
        )
    return expanded(name).absolute()


def location(name: str | Path) -> Path:
    """The absolute path of a name; of a bucket's (gs://..., s3://...) an `epath.Path`, which behaves like a path.

    Raises:
      UserError: for another kind of address, or a bucket that nothing installed here can open.
    """
    text = os.fspath(name)
    if not text:
        raise UserError("an empty path (--workdir=?) names nothing: give a folder")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return expanded(text).absolute()
    if scheme not in BUCKETS:
        raise UserError(
            f"{text}: give a folder, or one in a bucket ({', '.join(f'{s}://' for s in BUCKETS)})"
        )
    if importlib.util.find_spec(BUCKETS[scheme]) is None:
        raise UserError(f"{text}: buckets of {scheme}:// need the package {BUCKETS[scheme]}, pip install it")
    return epath.Path(text)


def in_bucket(path: Path) -> bool:
    """Whether a path of `location` lies in a bucket, where files are only written as a whole."""
    return "://" in os.fspath(path)


def refuse_input(
    out: Path, flag: str, inputs: Mapping[str, str | Path], folders: Mapping[str, str | Path]
) -> None:
    """Refuses to write onto what is read.

    Args:
      out: of `location`.
      flag: that names it.
      inputs: what each is -> its path; names that are no path here (a hub id, "") are passed over.
      folders: such inputs inside of which nothing may be written either.

    Raises:
      UserError: naming both.
    """
    for what, name in (inputs | folders).items():
        if not name or "://" in os.fspath(name) or in_bucket(out):
            continue
        taken, own = expanded(name).resolve(), out.resolve()
        if taken.exists() and (own == taken or what in folders and taken in own.parents):
            raise UserError(
                f"{flag}={out} would write into {what} ({name}), which is read; name another place"
            )


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what file systems without locks say


def locked(path: Path, wait: bool = False) -> filelock.BaseFileLock | None:
    """A lock on a file, which this process has until it is released, or dies; None where another one has it. On a file
    system without locks it holds nothing.

    Args:
      wait: until no other has it.

    Raises:
      OSError.
    """
    # Never one that is nothing but a file: that would outlive a process which is killed.
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        return None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    return lock


class Alone:
    """Holds a folder that is there for one process; where that dies, others may have it again. Nothing is held in a
    bucket, or on a file system without locks.

    Args:
      flag: that names the folder.
    """

    def __init__(self, folder: Path, flag: str):
        self._folder, self._flag, self._holder = folder, flag, folder / ".holder"
        self._lock: filelock.BaseFileLock | None = None

    def take(self) -> None:
        """Takes it.

        Raises:
          UserError: another process has it, which is named.
        """
        if in_bucket(self._folder):
            return
        with named(self._folder):
            self._lock = locked(self._folder / ".lock")
        if self._lock is None:
            by = self._holder.read_text() if self._holder.exists() else "another process"
            mend = "end it, or wait until it is done, or give another folder"
            raise UserError(f"{self._flag}={self._folder} is in use by {by}: {mend}")
        if self._lock.is_locked:
            with named(self._folder):
                self._holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")

    def leave(self) -> None:
        """Gives it back, where it was taken."""
        if self._lock is not None and self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()


# As Rust's libraries and TensorStore write it.
_OF_SYSTEM = re.compile(r"\(os error (\d+)\)|os_error_code='(\d+)'")


def errno_of(error: Exception) -> int | None:
    """The system's number of an error, also where a library tells it in its text alone; None where it has none."""
    if isinstance(error, OSError):
        return error.errno
    found = _OF_SYSTEM.search(str(error))
    if found:
        return int(found[1] or found[2])
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # ArrayRecord gives the words alone
    return next((number for number in full if os.strerror(number) in str(error)), None)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """What the system refuses inside, where nothing but this path is written, is an OSError that names it where it did
    not say which (a full disk)."""
    try:
        yield
    except Exception as error:
        number = errno_of(error)
        if number is None or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextlib.contextmanager
def complete_path(path: Path) -> Iterator[Path]:
    """A path to write a file to, which takes its name when the block ends; after an error nothing has changed."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with named(path):
            yield partial
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename == str(partial):  # nobody knows that name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes its name when the block ends; after an error nothing has changed.

    Several processes may write one file at once (runs that share a cache): the last one stays.
    """
    if in_bucket(path):
        buffer = io.BytesIO()
        yield buffer
        path.write_bytes(buffer.getvalue())
        return
    with complete_path(path) as partial, partial.open("wb") as file:
        yield file


def readable(path: Path) -> None:
    """Gives a file that a library wrote for its owner alone the mode that any new file gets."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def parse_json(text: str | bytes) -> Any:
    """A JSON text; ValueError where it is none, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:
    """A JSON file; ValueError where it is damaged in whatever way, OSError where it cannot be read."""
    return parse_json(path.read_text(encoding="utf8"))


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8, complete or not at all."""
    with complete_file(path) as file:
        file.write(text.encode())


DIGEST = ".digest"  # the array of an .npz that says what the others were


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name as an .npz with their digest, complete or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    with complete_file(path) as file:
        np.savez(file, **arrays, **{DIGEST: _digest(arrays)})


def read_arrays(path: Path, mapped: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an .npz; all are checked against their digest, which files of earlier versions lack.

    Args:
      mapped: they stay on this machine's disk, from where the system brings what is looked at, and takes no memory that
        others need. Otherwise each is read into its own memory.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, was edited, or is something else.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:  # np.load leaves a damaged file open
            read = functools.partial(_mapped, path, stored.zip) if mapped else stored.__getitem__
            arrays = {name: read(name) for name in stored.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and numpy each raise their own kinds
        raise ValueError(f"damaged, or no .npz: {error}") from error
    digest = arrays.pop(DIGEST, None)
    if digest is not None and not np.array_equal(digest, _digest(arrays)):
        raise ValueError("its arrays are not those that were written")
    return arrays


def _mapped(path: Path, stored: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array that `np.savez` wrote, uncompressed and in C order, mapped from where it lies in the file."""
    info = stored.getinfo(f"{name}.npy")
    with stored.open(info) as member:
        version = np.lib.format.read_magic(member)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        behind = member.tell()
    if version != (1, 0) or fortran or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} cannot be mapped")
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    # What stands before the array may be longer here than the zip's own list says.
    with path.open("rb") as file:
        file.seek(info.header_offset)
        behind += 30 + sum(struct.unpack("<26x2H", file.read(30)))
    return np.asarray(np.memmap(path, dtype, "r", info.header_offset + behind, shape))


def _digest(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return np.frombuffer(digest.digest(), np.uint8)
