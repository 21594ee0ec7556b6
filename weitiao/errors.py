"""The tree of errors. Each error is also a standard-library error, so that callers need not import ours.

WeitiaoError
├── UserError (exit code 2)        the user's input is wrong: where, value, cause, remedy
│   ├── UsageError (ValueError)
│   ├── ConfigError (ValueError)
│   ├── DataError (ValueError)
│   ├── ModelError (ValueError)
│   ├── HubError (LookupError)
│   └── DiskSpaceError (OSError)
└── RunError (exit code 1)         the run failed
    ├── DamagedError (ValueError)
    ├── NetworkError (ConnectionError)
    ├── NonFiniteError (ArithmeticError)
    └── OutOfMemoryError (MemoryError)
"""

from pathlib import Path

from weitiao.language import t
from weitiao.masking import masked


class WeitiaoError(Exception):
    """Anything this package raises on purpose. Wherever it is shown, on a page or by a notebook, tokens and keys in it are stars."""

    exit_code = 1

    def __str__(self) -> str:
        return masked(super().__str__())


class UserError(WeitiaoError):
    """The user's input is wrong. ``where`` is file:line, a config path or an option; ``cause`` says what is wrong with it (the value
    included); ``remedy`` says what to do."""

    exit_code = 2

    def __init__(self, where: str, cause: str, remedy: str) -> None:
        self.where, self.cause, self.remedy = where, cause, remedy
        super().__init__(f"{where}: {cause}\n  {t('怎么办', 'What to do')}: {remedy}")


class UsageError(UserError, ValueError):
    """A command line that cannot be understood."""


class ConfigError(UserError, ValueError):
    """A configuration that cannot be run."""


class DataError(UserError, ValueError):
    """A data file that cannot be used as it is."""


class ModelError(UserError, ValueError):
    """A model folder that cannot or must not be loaded."""


class HubError(UserError, LookupError):
    """A name, revision or file that a hub does not have or does not give, or one that is not here while no hub may be asked."""


class DiskSpaceError(UserError, OSError):
    """Too little free disk space for what the run will write."""


class RunError(WeitiaoError):
    """The run failed after its input was accepted."""


class DamagedError(RunError, ValueError):
    """A checkpoint on disk is not what its manifest says. ``cause`` says of which file and why."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(f"{path}: {cause}")


class NetworkError(RunError, ConnectionError):
    """A hub that cannot be reached, or breaks off. Nothing is wrong with the input: the same command may work later (so exit code 1)."""

    def __init__(self, where: str, cause: str, remedy: str) -> None:
        super().__init__(f"{where}: {cause}\n  {t('怎么办', 'What to do')}: {remedy}")


class NonFiniteError(RunError, ArithmeticError):
    """A loss, gradient or weight became NaN or infinite."""


class OutOfMemoryError(RunError, MemoryError):
    """The device has too little memory for the longest batch."""
