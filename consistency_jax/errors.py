"""The one base class of everything that a user can mend."""


class UserError(ValueError):
    """Bad input (a config key, a row, a folder): the message names the place and the mend.

    Commands print it without a traceback.
    """


class ConfigError(UserError):
    """A config that cannot run; the message names the key and the mend."""


class Interrupted(SystemExit):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has written a checkpoint."""
