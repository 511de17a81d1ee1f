"""consistency-jax COMMAND [CONFIG] [--FLAG=VALUE ...]: `python -m consistency_jax.COMMAND`, by a shorter name.

    consistency-jax audit --path=MODEL --data=cldr --workdir=runs/audit
    consistency-jax train tiny --workdir=runs/tiny
    consistency-jax configs copy gemma3 .

`consistency-jax COMMAND --help` says what one takes. Commands:
"""

import io
import re
import runpy
import signal
import sys

from consistency_jax import __version__
from consistency_jax.errors import UserError, nearest
from consistency_jax.runtime.help import first_line, help_of, source
from consistency_jax.runtime.shipped import copy, shipped

# Name -> module; the words that stand before a user's.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("consistency_jax.train", ()),
    "evaluate": ("consistency_jax.evaluate", ()),
    "audit": ("consistency_jax.evaluate", ("--config=audit",)),
    "ask": ("consistency_jax.ask", ("--config=ask",)),
    "pairs": ("consistency_jax.pairs", ()),
    "compare": ("consistency_jax.compare", ()),
    "export": ("consistency_jax.export", ()),
    "board": ("consistency_jax.board", ()),
    "picture": ("consistency_jax.picture", ()),
    "explore": ("consistency_jax.explore", ()),
    "aot": ("consistency_jax.aot", ()),
    "harness": ("consistency_jax.harness", ()),
}
FROM_LOGS = "consistency_jax.logs"  # audit --from=FOLDER
CONFIGS = "Configs that come along; `consistency-jax configs copy NAME .` gives one to edit."
WITH_CONFIG = ("train", "evaluate", "pairs", "aot")  # whose first word may be the name of one


def main() -> None:
    """Runs the command that the first word names.

    Raises:
      SystemExit: always, where there is none of that name; else as the command ends.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot write
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `--help | head` ends without a traceback
    name, rest = sys.argv[1] if len(sys.argv) > 1 else "--help", sys.argv[2:]
    if name in ("--help", "-h", "help"):
        print((__doc__ or "").strip(), "", *_summaries(), sep="\n")
        return
    if name == "--version":
        print(f"consistency_jax {__version__}")
        return
    if name == "configs":
        sys.exit(_configs(rest))
    if name not in COMMANDS:
        near = nearest(name, [*COMMANDS, "configs"])
        sys.exit(f"error: no command {name!r}{near}; consistency-jax --help lists them")
    module, words = COMMANDS[name]
    if name == "audit" and any(re.match("--?from(=|$)", word) for word in rest):
        module, words = FROM_LOGS, ()
    if name in WITH_CONFIG and rest and not rest[0].startswith("-"):
        rest = [f"--config={rest[0]}", *rest[1:]]
    # What stands behind a word of the harness is its own.
    if {"--help", "-h"} & {*(rest[:1] if name == "harness" else rest)}:
        try:
            print(help_of(source(module), [*words, *rest], name if words else ""))
            if name == "audit" and words:
                print(
                    "\nOf what others have logged: consistency-jax audit --from=FOLDER; --from --help tells more."
                )
        except UserError as error:
            sys.exit(f"error: {error}")
        return
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
    sys.argv[1:] = [*words, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _summaries() -> list[str]:
    own = {
        "audit": "How consistent is a model? It is measured as it is, without training.",
        "configs": CONFIGS,
    }
    told = {name: first_line(source(module)) for name, (module, _) in COMMANDS.items()} | own
    return [f"  {name:<9} {line}" for name, line in told.items()]


def _configs(words: list[str]) -> str | int:
    """`configs`, `configs copy NAME [FILE_OR_FOLDER]`: 0, or what is wrong."""
    if not words:
        print(
            f"{CONFIGS}\n", *(f"  {name:<9} {first_line(path)}" for name, path in shipped().items()), sep="\n"
        )
        return 0
    if words[0] != "copy" or len(words) not in (2, 3):
        return "error: consistency-jax configs, or consistency-jax configs copy NAME [FILE_OR_FOLDER]"
    try:
        print(copy(words[1], *words[2:]))
    except (UserError, OSError) as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    main()
