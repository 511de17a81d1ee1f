"""The one base class of everything that a user can mend, and the word that a mistyped one is near to."""

import difflib
import re
from collections.abc import Iterable

_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # all but the line's end


class UserError(ValueError):
    """Bad input (a config key, a row, a folder): the message names the place and the mend.

    Commands print it without a traceback.
    """

    def __str__(self) -> str:
        """The message; characters that would steer a terminal are spelt out."""
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().__str__())


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
