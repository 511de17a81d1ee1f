"""What goes to the Hub, by the command itself, to a server on this machine that answers as the Hub does."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from consistency_jax.models.hub import licence_of, part_of_export
from consistency_jax.train import train

ROOT = Path(__file__).resolve().parents[2]


class Hub:
    """Repositories as the Hub's addresses tell them: {"me/name": {"private": ..., "files": {name: bytes}}}."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def answer(self, value: Any, status: int = 200, **headers: str) -> None:
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name.replace("_", "-"), text)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if self.headers.get("Authorization") != "Bearer good":
                    return self.answer({"error": "Invalid username or password."}, 401)
                if path == "/api/whoami-v2":
                    return self.answer({"type": "user", "name": "me", "auth": {}})
                parts = path.strip("/").split("/")
                name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
                found = hub.repositories.get(name)
                if not found:
                    return self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
                if parts[0] == "api":
                    if "tree" in parts:
                        tree = [
                            {"type": "file", "path": file, "size": 1, "oid": "0"} for file in found["files"]
                        ]
                        return self.answer(tree)
                    files = [{"rfilename": file} for file in found["files"]]
                    return self.answer(
                        {"id": name, "sha": "1" * 40, "siblings": files, "private": found["private"]}
                    )
                file = found["files"].get("/".join(parts[4:]))
                if file is None:
                    return self.answer({"error": "no file"}, 404, X_Error_Code="EntryNotFound")
                digest = hashlib.sha1(file).hexdigest()
                self.answer(file, ETag=f'"{digest}"', X_Repo_Commit=digest)

            def do_POST(self) -> None:
                path, body = self.path.partition("?")[0], self.body()
                address = f"http://127.0.0.1:{self.server.server_address[1]}"
                if path == "/api/repos/create":
                    told = json.loads(body)
                    name = f"{told['organization']}/{told['name']}"
                    if name in hub.repositories:
                        return self.answer({"url": f"{address}/{name}"}, 409)
                    hub.repositories[name] = {"private": told["visibility"] == "private", "files": {}}
                    return self.answer({"url": f"{address}/{name}", "name": name})
                if "/preupload/" in path:
                    files = [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                    return self.answer({"files": files})
                if path.endswith("/info/lfs/objects/batch"):
                    objects = [
                        own | {"actions": {"upload": {"href": f"{address}/blob/{own['oid']}"}}}
                        for own in json.loads(body)["objects"]
                    ]
                    return self.answer({"transfer": "basic", "objects": objects})
                if "/commit/" in path:
                    name = "/".join(path.split("/")[3:5])
                    for line in body.splitlines():
                        told = json.loads(line)
                        if told["key"] == "file":
                            text = base64.b64decode(told["value"]["content"])
                            hub.repositories[name]["files"][told["value"]["path"]] = text
                        if told["key"] == "lfsFile":
                            blob = hub.blobs[told["value"]["oid"]]
                            hub.repositories[name]["files"][told["value"]["path"]] = blob
                    return self.answer({"commitUrl": f"{address}/{name}/commit/1", "commitOid": "1" * 40})
                self.answer({})

            def do_PUT(self) -> None:
                body = self.body()
                hub.blobs[hashlib.sha256(body).hexdigest()] = body
                self.answer({})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def export(hub: Hub, tmp_path: Path, *options: str, token: str = "good") -> subprocess.CompletedProcess:
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server.server_address[1]}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    words = [f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'out'}", *options]
    command = [sys.executable, "-m", "consistency_jax.export", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_an_export_goes_to_a_private_repository_and_is_found_there_again(small_config, tmp_path, hub):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    (tmp_path / "run" / "command.txt").write_text("python -m consistency_jax.train --config=mine.py\n")
    done = export(hub, tmp_path, "--push=me/mine", token="")
    assert "--push=me/mine needs a token that may write: set HF_TOKEN" in done.stderr, done.stderr
    done = export(hub, tmp_path, "--push=me/mine", token="bad")
    assert done.stderr.startswith("error: --push=me/mine: the Hub refuses or cannot be reached"), done.stderr
    assert not (tmp_path / "out").exists()  # told before any work

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine alone")
    done = export(hub, tmp_path, "--push=me/mine")
    assert done.returncode == 0, done.stderr
    assert "pushed to http://127.0.0.1" in done.stdout
    found = hub.repositories["me/mine"]
    assert found["private"] is True
    written = {
        path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "notes.txt"
    }
    assert {name: text for name, text in found["files"].items() if name != ".gitattributes"} == written
    card = found["files"]["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["language"] == ["en", "de", "ru"]
    for told in (
        "Trained on jsonl (questions.jsonl).",
        "python -m consistency_jax.train --config=mine.py",
        "95% interval",
    ):
        assert told in card

    done = export(hub, tmp_path, "--push=me/mine", "--public")  # again; it stays as private as it is
    assert done.returncode == 0, done.stderr
    assert found["private"] is True
    found["files"]["README.md"] = b"# Another model"
    done = export(hub, tmp_path, "--push=me/mine")
    assert "error: --push=me/mine holds a model that no export wrote: choose another name" in done.stderr
    assert found["files"]["README.md"] == b"# Another model"


def test_a_name_that_is_none(tmp_path, small_config, hub):
    small_config.total_steps = 1
    train(small_config, tmp_path / "run")
    assert "--push=mine should be OWNER/NAME" in export(hub, tmp_path, "--push=mine").stderr


def test_what_an_export_writes():
    for name in (
        "README.md",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    ):
        assert part_of_export(name)
    for name in ("notes.txt", "model_backup.safetensors", "secrets.json"):
        assert not part_of_export(name)


def test_the_licence_is_what_the_base_model_says(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert licence_of(str(tmp_path)) == ""
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\nlicense: mit\n")
    assert licence_of(str(tmp_path)) == "apache-2.0"
    (tmp_path / "README.md").write_text("# Model\nlicense: mit\n")
    assert licence_of(str(tmp_path)) == ""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_license("gemma")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert licence_of(str(tmp_path / "m.gguf")) == "gemma"
