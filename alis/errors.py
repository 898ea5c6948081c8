"""The error classes; every message names the thing and its value, and every hint says what to do.

AlisError               never raised itself
├── UserError           the user's mistake: exit code 2
│   ├── ConfigError     an unknown setting, a wrong value, or an impossible geometry
│   ├── InputError      a file, folder or argument is not what is needed
│   ├── UnsafePickle    a checkpoint asks for something that reading weights never needs
│   └── WeightsMissing  weights are not on disk and can't be downloaded
└── RunError            a failure that is not the user's mistake: exit code 1
    ├── DataError       the dataset can't be read, or is too small
    └── TrainingDiverged  a loss or weight became NaN
"""

from __future__ import annotations


class AlisError(Exception):
    """Base of all errors that are not bugs in alis: `message` says what is wrong, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UserError(AlisError):
    """The user's mistake; nothing has been changed."""

    exit_code = 2


class ConfigError(UserError):
    """A setting is unknown or has a wrong value, or settings contradict each other."""


class InputError(UserError):
    """A file, folder or argument is not what the command needs."""


class UnsafePickle(UserError):
    """A checkpoint file asks for something that reading weights never needs; nothing in it was executed."""


class WeightsMissing(UserError):
    """Weights or a package are missing and can't be downloaded; the hint says what to install or download."""


class RunError(AlisError):
    """A failure that is not the user's mistake."""


class DataError(RunError):
    """The dataset can't be read, or is too small."""


class TrainingDiverged(RunError):
    """A loss or weight became NaN; the hint names the last good snapshot."""
