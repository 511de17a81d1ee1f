"""The one base class of everything that a user can mend, and the word that a mistyped one is near to."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input (a config key, a row, a folder): the message names the place and the mend.

    Commands print it without a traceback.
    """


class ConfigError(UserError):
    """A config, or a checkpoint's config.json, that cannot run; the message names the key and the mend."""


class CheckpointError(UserError):
    """A checkpoint, of training or of Hugging Face, that cannot be read or written; names the folder and the mend."""


class Interrupted(SystemExit):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has written a checkpoint."""


def nearest(key: str, known: Iterable[str]) -> str:
    """ " (did you mean ...?)", or nothing where no known key is like it."""
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
