"""The tree of errors; every one says the thing, the value and the next move.

AlisError               never raised itself
├── UserError           the user's mistake: exit code 2
│   ├── ConfigError     a setting is unknown or wrong, or a geometry that is not whole
│   ├── InputError      a file, folder or argument is not what is needed
│   ├── UnsafePickle    a checkpoint asks for something that reading one never needs
│   └── WeightsMissing  weights are not on disk and can't be fetched
└── RunError            the run met something the user did not do: exit code 1
    ├── DataError       the dataset can't be read, or holds too little
    └── TrainingDiverged  a loss became NaN
"""

from __future__ import annotations


class AlisError(Exception):
    """Base of every error that is not a bug of ours: `message` is the thing and the value, `hint` the next move."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UserError(AlisError):
    """The user's mistake; nothing was changed."""

    exit_code = 2


class ConfigError(UserError):
    """A setting is unknown or has a wrong value."""


class InputError(UserError):
    """A file, folder or argument is not what the command needs."""


class UnsafePickle(UserError):
    """A checkpoint file asks for something that reading weights never needs; nothing of it ran."""


class WeightsMissing(UserError):
    """Weights are not on disk and can't be fetched; the hint names file, URL and target path."""


class RunError(AlisError):
    """Something went wrong that the user did not do."""


class DataError(RunError):
    """The dataset can't be read, or holds too little to train on."""


class TrainingDiverged(RunError):
    """A loss became NaN; the hint names the last good snapshot."""
