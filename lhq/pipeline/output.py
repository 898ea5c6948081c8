"""Single files that a command writes to a given path: a page, a picture. It never replaces a file of the user's."""

from __future__ import annotations

import os

import fsspec

from lhq.errors import InputError, StoreError
from lhq.store.atomic_file import write_atomically

# What the first bytes of our own files hold: pages of the filter (of any version), of rights, a picture that was shown.
_MARKS = (
    b"filter report</title>",
    b"<title>Rights</title>",
    b"# Rights: ",
    b"## Public summary of training content",
    b"written by lhq show",
)
_HEAD = 4096


def check(output: str, option: str) -> None:
    """Check that a file may be written there, before any work is done for it.

    Raises:
        InputError: a file is there that lhq did not write.
    """
    if not os.path.isfile(output) or not os.path.getsize(output):
        return
    try:
        with open(output, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}", hint=f"give another place with {option}") from error
    if not any(mark in head for mark in _MARKS):
        raise InputError(
            f"{output}: is there already, and lhq did not write it",
            hint=f"move it away, or give another place with {option}",
        )


def write(output: str, data: bytes, option: str) -> None:
    """Write a complete file to a path or an address.

    Raises:
        InputError: it can't be written.
    """
    fs, path = fsspec.core.url_to_fs(output)
    try:
        write_atomically(fs, path, lambda sink: sink.write(data))
    except StoreError as error:
        raise InputError(error.message, hint=f"give another place with {option}") from None
