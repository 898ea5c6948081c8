"""The tree of errors; every one says the thing, the value and the next move.

    LhqError                  never raised itself
    ├── UserError             the user's mistake: exit code 2, nothing was changed
    │   ├── ConfigError       a pipeline file or a setting in it
    │   ├── KeyMissing        an API key or its permission is not given
    │   ├── StoreError        the store can't be opened, written, or is in use
    │   ├── InputError        a file or an argument is not what is needed
    │   ├── RightsRefused     a licence or a source's terms forbid what was asked
    │   └── WeightsMissing    a model's weights are not on disk and can't be fetched
    └── RunError              the run met something the user did not do: exit code 1
        ├── SourceError       a service refused, is down, or answered nonsense
        ├── FetchError        one photo's bytes could not be had (a value on its row)
        ├── ImageError        one photo's bytes are not a usable picture (a value on its row)
        └── ShardDamaged      a file of the store is not readable

A row's failure is a value, a shard's failure is a report, our bug is a traceback: only `cli.py` turns
these into one line and an exit code.
"""

from __future__ import annotations


class LhqError(Exception):
    """Base of every error that is not a bug of ours.

    Args:
        message: the thing and the value, e.g. `pipelines/a.toml [filter.size]: unknown key "min_sied"`.
        hint: the next move, e.g. `did you mean "min_side_px"?`.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.__dict__)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def _rebuild(kind: type[LhqError], message: str, hint: str, state: dict[str, object]) -> LhqError:
    """Errors cross process borders (engines), so they must survive pickling with their fields."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.message, error.hint = message, hint
    error.__dict__.update(state)
    return error


class UserError(LhqError):
    """The user's mistake; nothing was changed."""

    exit_code = 2


class ConfigError(UserError):
    """A pipeline file can't be read, or a key or value in it is wrong."""


class KeyMissing(UserError):
    """An API key is not in the environment, or a permission is not stated."""


class StoreError(UserError):
    """The store can't be opened or written, is in use by another process, or has a newer format."""


class NotCrawled(StoreError):
    """No crawl was started in this store."""


class InputError(UserError):
    """A file, folder or argument is not what the command needs."""


class RightsRefused(UserError):
    """A licence or a source's terms forbid what was asked."""


class WeightsMissing(UserError):
    """A model's weights are not on disk and can't be fetched; the hint names file, URL and target path."""


class RunError(LhqError):
    """Something went wrong that the user did not do."""


class SourceError(RunError):
    """A service refused, is down, or answered something that can't be read."""


class FetchError(RunError):
    """One photo's bytes could not be had.

    `reason` is one short word for the row (`http-404`, `timeout`, `opt-out`, `truncated` …);
    `permanent` says whether trying again can help.
    """

    def __init__(self, message: str, *, hint: str, reason: str, permanent: bool) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.permanent = permanent


class ImageError(RunError):
    """One photo's bytes are not a usable picture; `reason` is one short word for the row."""

    def __init__(self, message: str, *, hint: str, reason: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class ShardDamaged(RunError):
    """A file of the store is not readable."""
