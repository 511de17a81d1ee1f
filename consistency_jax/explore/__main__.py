"""Ask models on a page, in several languages side by side: python -m consistency_jax.explore --workdir=runs/tiny

    consistency-jax explore --workdir=runs/tiny                         # before and after a run, its test questions
    consistency-jax explore --model=A --model=B --data=questions.jsonl  # any models, any data that an audit takes

Behind --model stand the options of an audit (consistency-jax audit --help); a run is asked what it was tested on.
A question is picked or written, in several languages; the page shows how each model ranks the answers, what it writes,
how alike two languages are, and the round trip between them. Needs the extra [explore]. The page is served to this
machine alone, http://127.0.0.1:7860; on a Hugging Face Space, to all who visit it.
"""

import errno
import os
import re
import socket
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import validate
from consistency_jax.config.command_line import as_flags
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.reports import page_title
from consistency_jax.evaluation.splits import load_tests
from consistency_jax.models.checkpoint import find_checkpoint
from consistency_jax.runtime.cli import config_flag, run_app, run_command, use_compile_cache
from consistency_jax.runtime.files import HUB_ID, location
from consistency_jax.training.workdir import read_config


def explore(
    config: ConfigDict | None,
    workdir: str | None,
    models: Sequence[str] = (),
    checkpoint: str = "latest",
    host: str = "",
    port: int = 0,
) -> None:
    """Loads models and serves the page until it is interrupted.

    Args:
      config: which questions, and how they are asked; None: as the workdir's run.
      workdir: of a run, whose base model and checkpoint are asked; None where models are named.
      models: folders, GGUF files or hub ids.
      checkpoint: latest, or a step.
      host: address to serve at; "": this machine alone, or what GRADIO_SERVER_NAME says.
      port: 0: the first that is free from 7860 on.

    Raises:
      ConfigError: neither a workdir nor a model, or both; or gradio is not installed.
    """
    if bool(workdir) == bool(models):
        raise ConfigError("give the --workdir of a run, or one or more --model=FOLDER_OR_FILE")
    if workdir and config is not None:
        raise ConfigError("a run is asked as its own config says: give --config beside --model alone")
    if models and checkpoint != "latest":
        raise ConfigError("--checkpoint is of a run: give --workdir, or export it and name the folder")
    if not all(models):
        raise ConfigError("--model= names nothing: a folder, a GGUF file or a hub id")
    if checkpoint != "latest" and not (checkpoint.isascii() and checkpoint.isdigit()):
        raise ConfigError(f"--checkpoint={checkpoint} should be latest or the step of a checkpoint")
    if not 0 <= port < 65536:
        raise ConfigError(f"--port={port} should be 0 to 65535")
    served = (host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip("[]")
    if reason := _refused(served, port):
        raise ConfigError(reason)
    from consistency_jax.explore.asking import of_models, of_run

    # Compiled programs are not read from where a stored config says: a folder may come from anyone.
    if workdir:
        config = read_config(location(workdir), model=True)
    else:
        assert config is not None
        use_compile_cache(config)
    validate(config, jax.device_count())
    for path in models:
        if not HUB_ID.fullmatch(path):
            find_checkpoint(path)
    try:
        from consistency_jax.explore.page import build_page, style
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ConfigError("the page needs gradio: pip install 'consistency_jax[explore]'") from error
    items = [item for own in load_tests(config).values() for item in own]
    print(f"questions {len(items):,}, of {config.data.path or config.data.source}", flush=True)
    print("loading " + (workdir or " and ".join(models)), flush=True)
    if workdir:
        asked = of_run(config, location(workdir), checkpoint)
        title = page_title(config, len(asked) == 1)
    else:
        asked = of_models(config, models)
        title = " and ".join(one.name for one in asked)
    page = build_page(title, asked, items, config.evaluation.normalization)
    _, address, _ = page.launch(
        server_name=(f"[{served}]" if ":" in served else served) if host else None,
        server_port=port or None,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        **style(),
    )
    print(f"the page: {address} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def _refused(host: str, port: int) -> str:
    """Why nothing can be served there; "" where it can."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"--port={port} is taken: give another one, or none"
            return f"--host={host} --port={port} cannot be served at: {error.strerror}"
    return ""


def _words(argv: Sequence[str], *known: Any) -> list[str]:
    """The command line, with a config for --model: that of an audit, of the embedded facts unless other data are
    named."""
    models = [
        word.partition("=")[2] or after
        for word, after in zip(argv, [*argv[1:], ""])
        if re.fullmatch("--?model(=.*)?", word, re.DOTALL)
    ]
    if models and not any(re.match("--?config(=|$)", word) for word in argv):
        named = any(re.match("--?data(=|$)", word) for word in argv)
        argv = [*argv, "--config=audit", f"--path={models[0]}", *([] if named else ["--data=cldr"])]
    return as_flags(argv, *known)


def main(argv: Sequence[str]) -> None:
    del argv
    flags_given = (_CONFIG, _WORKDIR, _MODEL, _CHECKPOINT, _HOST, _PORT)
    run_command(explore, *(flag.value for flag in flags_given))


if __name__ == "__main__":
    _CONFIG = config_flag()
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
    _MODEL = flags.DEFINE_multi_string("model", [], "Folder, GGUF file or hub id; may be given again.")
    _CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, or the step of a checkpoint.")
    _HOST = flags.DEFINE_string("host", "", "Address to serve at; this machine alone by default.")
    _PORT = flags.DEFINE_integer("port", 0, "To serve at; the first that is free from 7860 on by default.")
    run_app(main, words=_words)
