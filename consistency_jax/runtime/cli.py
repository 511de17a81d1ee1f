"""What the commands share: their flags and --help, how one ends, how it was called, and which version it is."""

import _thread
import contextlib
import errno
import importlib.metadata
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from logging import LogRecord
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from consistency_jax.errors import Interrupted, UserError
from consistency_jax.runtime import processes
from consistency_jax.runtime.files import location
from consistency_jax.runtime.help import help_of

flags.disclaim_key_flags()  # what is defined here is a flag of the command that asks for it, and in its --help
OURS = ("ConfigError", "DataError", "UserError", "CheckpointError")
# What a disk says that takes no more, to this user or in one file -> what helps.
FULL = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space") | {errno.EFBIG: "raise ulimit -f"}
ORBAX = f"{os.sep}orbax{os.sep}checkpoint{os.sep}"  # in the name of each of its files
INTERRUPTED = 130  # as shells tell it
PROCESS_FLAGS = ("coordinator_address", "num_processes", "process_id", "heartbeat_timeout_seconds")


def run_command(command: Callable[..., Any], *args: Any) -> None:
    """Runs a command; what its user can mend ends it with one message instead of a traceback.

    Where the command may be one of several processes (`run_app`), they are joined first.
    """
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # the libraries' own reports; --verbosity=0 shows them
        # So says Python, behind the error that ends a command, of what Orbax had still to write when it failed.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    try:
        if "num_processes" in flags.FLAGS:
            processes.initialize(**{name: flags.FLAGS[name].value for name in PROCESS_FLAGS})
        print(version(), flush=True)
        command(*args)
    except Interrupted as stop:
        print(stop.code, file=sys.stderr)
        sys.exit(0)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        _end(INTERRUPTED)
    except (UserError, FloatingPointError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in FULL
        mend = f"; {FULL[error.errno]}, then give the same command again" if full else ""
        sys.stderr.write(f"error: {error}{mend}\n")  # at once, so that no thread writes into the line
        _end(1)
    except Exception as error:
        if str(error).startswith("Unable to initialize backend"):  # one that JAX_PLATFORMS names, say
            print(f"error: JAX_PLATFORMS: {error}", file=sys.stderr, flush=True)
            if jax.distributed.is_initialized():
                processes.leave(1)
            sys.exit(1)
        if not processes.several():
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):  # of the network, mostly
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        _end(1)


def _end(status: int) -> None:
    if processes.several():
        print(
            f"process {jax.process_index()} of {jax.process_count()} ends. Where another one ended before, what that "
            "one printed says why; the same command, given to all, goes on from the last checkpoint",
            file=sys.stderr,
        )
        processes.leave(status)
    sys.exit(status)


def run_app(
    main: Callable[[Sequence[str]], None],
    *,
    joint: bool = False,
    keys: Callable[[], str] | None = None,
    words: Callable[..., list[str]] | None = None,
) -> None:
    """Parses the command line and calls main; a flag that is wrong ends it with one message.

    Args:
      joint: the command may be run by several processes at once.
      keys: tells the keys of --config, for --helpfull.
      words: makes what flags take of what people write (config/command_line.py).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot write must not end a run
            stream.reconfigure(errors="replace")
    _hush()
    if joint:
        flags.DEFINE_string("coordinator_address", None, "Several processes: host:port of process 0.")
        flags.DEFINE_integer(
            "num_processes", None, "How many there are; 1: this one alone, whatever else says."
        )
        flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
        flags.DEFINE_integer(
            "heartbeat_timeout_seconds", 100, "Without a sign of one process for so long, all others end."
        )

    def parse(argv: Sequence[str]) -> list[str]:
        if {"--help", "-h", "--helpfull"} & {*argv}:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `--help | head` ends without a traceback
            try:
                print(help_of(Path(sys.modules["__main__"].__file__), argv[1:]))
            except UserError as error:
                sys.exit(f"error: {error}")
            print(keys() if keys and "--helpfull" in argv else "", end="")
            sys.exit(0)
        try:
            if bad := [word for word in argv if word.encode(errors="ignore").decode() != word]:
                raise UserError(f"{str(os.fsencode(bad[0]))[2:-1]} is no UTF-8: rename what has this name")
            if words:
                own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
                argv = words(argv, flags.FLAGS, [flag.name for flag in own])
            rest = flags.FLAGS(argv)
            if words and rest[1:]:
                mend = "give options as --NAME=VALUE, and several names as a,b"
                raise UserError(f"{rest[1]!r} is neither a flag nor an option: {mend}")
            config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
            hasattr(config, "lock")  # one that could not be read raises only when used
            given = "config" in flags.FLAGS and flags.FLAGS["config"].present
            if isinstance(config, ConfigDict) or not given:
                return rest
            told = f"--config: get_config returned {type(config).__name__}, not a ConfigDict"
        except UserError as error:
            told = str(error)
        except flags.Error as error:
            missing = re.match(r"flag --(\w+)=None: Flag --\1 must have a value", str(error))
            told = (
                f"--{missing[1]} is missing; --help tells what it is"
                if missing
                else _last_of_traceback(str(error).removeprefix("ERROR:: "))
            )
        except OSError as error:  # of the config file; what went wrong stands behind its number
            told = f"--config: {str(error.__cause__).rpartition('] ')[2]}"
        except Exception as error:  # of a file that is no config or has a mistake, or of a --config.KEY
            told = unread(error)
        print(f"error: {told}", file=sys.stderr)
        sys.exit(1)

    def run(argv: Sequence[str]) -> None:
        try:
            main(argv)
        except SystemExit as stop:
            if stop.code == INTERRUPTED:  # what is being compiled would crash as the interpreter ends
                processes.leave(INTERRUPTED)
            raise

    app.run(run, flags_parser=parse)


def _hush() -> None:
    """Keeps off the terminal, unless --verbosity is given, what is told once already, by the error that ends a command:
    each of Orbax's threads logs its own failure, and files that could not be written fail once more when they go."""
    unraisable = sys.unraisablehook

    def shown(record: LogRecord) -> bool:
        if flags.FLAGS["verbosity"].present or not record.exc_info:
            return True
        return ORBAX not in record.pathname and record.name != "asyncio"

    def on_unraisable(found: "sys.UnraisableHookArgs") -> None:
        error, task = found.exc_value, getattr(found.object, "cr_code", None)  # whose name has the file in it
        # Ctrl-C in JAX's callback of the garbage collector, where it is lost.
        if isinstance(error, KeyboardInterrupt):
            again = threading.Timer(0.1, _thread.interrupt_main)
            again.daemon = True
            again.start()
            return
        full = isinstance(error, OSError) and error.errno in FULL
        told = full or str(error) == "Event loop is closed" or ORBAX in str(task)
        if flags.FLAGS["verbosity"].present or not told:
            unraisable(found)

    logging.get_absl_handler().addFilter(shown)
    sys.unraisablehook = on_unraisable


def _last_of_traceback(text: str) -> str:
    """An error of a config file comes as the text of its traceback: its last line, behind the file and line that it
    arose at, or the message alone where it is one of ours. Another text is as it is."""
    text = text.strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kind, separator, _ = lines[-1].partition("Error: ") if lines else ("", "", "")
    if "Traceback (most recent call last)" not in text or not separator:
        return text
    if f"{kind}Error".rpartition(".")[2] in OURS:
        return text.rpartition(f"{kind}Error: ")[2]
    places = re.findall(r'File "([^"]+)", line (\d+)', text)
    own = [f"{file}:{line}: " for file, line in places if "/lib/python" not in file]
    return f"--config: {''.join(own[-1:])}{lines[-1]}"


def unread(error: Exception) -> str:
    """What is wrong with a --config that raised an error as it was read: the file with the line, or a key."""
    if isinstance(error, SyntaxError) and error.filename != "<unknown>":
        return f"--config: {error.filename}:{error.lineno}: {error.msg}"
    frames = [
        (frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(error.__traceback__)
    ]
    if any(file.endswith("config_path.py") for file, *_ in frames):
        if any(name == "split" for *_, name in frames):
            return "--config.KEY=VALUE: a key is names of letters, digits and _, with dots between"
        if isinstance(error, KeyError):  # --config.SECTION.KEY=VALUE of a section that is not there
            return f"the config has no such section: {' '.join(error.args[0].split())}"
        return f"--config.KEY=VALUE: there is no such key ({error})"
    own = [f"{file}:{line}: " for file, line, _ in frames if "/lib/python" not in file and file != __file__]
    return f"--config: {''.join(own[-1:])}{type(error).__name__}: {error}"


def config_flag() -> flags.FlagHolder:
    """--config=file.py:key=value,... with --config.a.b=value for single keys; unknown keys are told by `validate`."""
    try:
        return config_flags.DEFINE_config_file(
            "config",
            None,
            "The name of one that comes along, or a Python file with get_config(arg).",
            lock_config=False,
            accept_new_attributes=True,
        )
    except (flags.Error, UnicodeDecodeError) as error:  # of a --flagfile, which is read here already
        sys.exit(f"error: --flagfile: {str(error).removeprefix('ERROR:: ')}")


def command_line() -> str:
    """The command that this process was started with, as one would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else ["python", sys.argv[0]]
    return shlex.join([*start, *sys.argv[1:]])


def own_command() -> str:
    """`command_line`, where this process is a command of this package; else ""."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return command_line() if spec and spec.name.startswith(__package__.partition(".")[0]) else ""


def version() -> str:
    """The package's name and version, and the commit of the checkout that it runs from, where it is one's."""
    name = __package__.partition(".")[0]
    try:
        told = f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        told = name
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return told

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # Not `describe --dirty`, which locks the index all the same: killed by the time limit it leaves the lock there.
        changed = git("status", "--porcelain", "--untracked-files=no")
        return f"{told}, commit {git('rev-parse', '--short', 'HEAD')}{'-dirty' if changed else ''}"
    return told


def use_compile_cache(config: ConfigDict) -> None:
    """Keeps compiled programs in `config.compile_cache`, where it names a folder."""
    if config.compile_cache:
        jax.config.update("jax_compilation_cache_dir", str(location(config.compile_cache)))
