"""What --help says, read from the source of a command, so that it is there before anything heavy is imported."""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.shipped import config_file, shipped


def source(module: str) -> Path:
    """The file of a module, of a package that of its `__main__`; nothing is imported but its package."""
    spec = find_spec(module)
    path = Path(spec.origin)
    return path.with_name("__main__.py") if spec.submodule_search_locations else path


def doc(file: Path) -> str:
    """What a file says of itself.

    Raises:
      ConfigError: it cannot be read as Python.
    """
    try:
        return ast.get_docstring(ast.parse(file.read_text("utf8"))) or ""
    except SyntaxError as error:
        raise ConfigError(f"{file}:{error.lineno or 1}: {error.msg}") from None
    except (ValueError, OSError) as error:  # not UTF-8, holds NUL, may not be read
        raise ConfigError(f"{file}: {error}") from None


def first_line(file: Path) -> str:
    """The first line of that."""
    return doc(file).partition("\n")[0]


def help_of(file: Path, words: Sequence[str], about: str = "") -> str:
    """The help of a command: what it says of itself, its flags, and what its config takes.

    Args:
      file: of the command.
      words: behind the command; a --config=NAME among them is told about.
      about: the name of a config, where the command is that one's: what it says stands first.

    Raises:
      ConfigError: a config that is not there.
    """
    text = file.read_text("utf8")
    common = dict(_flags(Path(__file__).with_name("cli.py")))
    line = common.pop("config")
    config = line if "config_flag()" in text else ""
    shared = common.values() if "joint=True" in text else ()
    flags = [*filter(None, [config]), *dict(_flags(file)).values(), *shared]
    told = [*configs(about)] if about else [doc(file)]
    told += ["", "flags:", *flags] if flags else []
    if config and not about:
        asked = " ".join(words).replace("--config ", "--config=").split()
        named = next((word.partition("=")[2] for word in asked if word.startswith("--config=")), "")
        told += ["", *configs(named.partition(":")[0]), "", "Every key of a config: --helpfull"]
    return "\n".join(told)


def configs(name: str) -> Iterator[str]:
    """What a config says of itself; of none, which ones come along."""
    if name:
        yield from (
            f"--config={name}, whose options may also be flags, --NAME=VALUE:",
            "",
            re.sub(r"(?<=\S) {4,}(?=--)", " ", doc(config_file(name))),  # a line that a backslash joined
        )
        return
    yield from (
        "Configs that come along, --config=NAME or a file; --config=NAME --help says more of one:",
        "",
    )
    yield from (f"  {name:<9} {first_line(file)}" for name, file in shipped().items())


def _flags(file: Path) -> Iterator[tuple[str, str]]:
    """Name and line of each flag that a file defines, `DEFINE_KIND(name, default, help)`."""
    for node in ast.walk(ast.parse(file.read_text("utf8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr.startswith("DEFINE_")
        ):
            flag, default, text = (ast.literal_eval(argument) for argument in node.args[:3])
            own = "" if default in (None, "") else f" (default: {default})"
            line = textwrap.fill(f"--{flag}: {text}{own}", 110, initial_indent="  ", subsequent_indent="    ")
            yield flag, line
