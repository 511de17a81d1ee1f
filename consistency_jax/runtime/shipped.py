"""The configs that come with the package: configs/ of a checkout, which an installation carries inside it."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from consistency_jax.errors import ConfigError, nearest


def folder() -> Path:
    """Where they lie."""
    package = Path(__file__).resolve().parents[1]
    return next(path for path in (package / "configs", package.parent / "configs") if path.is_dir())


def shipped() -> dict[str, Path]:
    """Name -> file, by name."""
    return {path.stem: path for path in sorted(folder().glob("*.py"))}


def config_file(name: str) -> Path:
    """The file that --config names: a path, or the name of a shipped one, as `tiny`, `tiny.py` or `configs/tiny.py`.

    Raises:
      ConfigError: there is none; names the nearest.
    """
    path = _expanded(name)
    if path.is_file():
        return path
    known = shipped()
    if str(path.parent) in (".", "configs") and path.name.removesuffix(".py") in known:
        return known[path.name.removesuffix(".py")]
    near = nearest(path.stem, known)
    raise ConfigError(
        f"--config={name}: there is no such file{near}; configs that come along: {', '.join(known)}"
    )


def get_config(name: str, options: str = "") -> Any:
    """The ConfigDict that --config=NAME:OPTIONS makes: of a shipped config by its name, or of a file.

    Raises:
      ConfigError: there is no such file, or an option that it does not take.
    """
    file = config_file(name)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None:
        raise ConfigError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{file} has no get_config(arg)")
    return module.get_config(options)


def copy(name: str, out: str = ".") -> Path:
    """Copies a shipped config into a folder, or to a file that is not there yet; returns the file.

    Raises:
      ConfigError: another name, or a file that is there.
    """
    if name not in (known := shipped()):
        raise ConfigError(f"configs copy {name}: choose from {', '.join(known)}{nearest(name, known)}")
    target = _expanded(out)
    target = target / f"{name}.py" if target.is_dir() or out.endswith("/") else target
    if target.exists():
        raise ConfigError(f"{target} is there already; name another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(known[name], target)
    return target


def _expanded(name: str) -> Path:
    """`runtime.files.expanded`, which would import what --help does without."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: {error}; write the whole path") from None
