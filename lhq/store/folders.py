"""A folder that has its name if and only if it is complete: written beside, then renamed.

`DIR.part` holds the work and survives an interruption; `DIR.old` exists only for the moment between two
renames, and is put back if that moment was the last. All three are touched only where they carry our mark.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lhq.errors import InputError, StoreError
from lhq.store import marks
from lhq.store.marks import Content
from lhq.system import lock_folder, sync_folder

_SHOWN = 3


@dataclass(frozen=True)
class Place:
    """A folder that is written whole.

    Args:
        to: its path; a link is followed once, here, so that what it points to is replaced and not the link.
        kind: of the mark, e.g. `export`.
        unmarked: the content of a folder without a mark, told by the files themselves; None for a foreign one.
        keeps_mark: the mark stays in the finished folder, since its files alone don't tell whose they are.
    """

    to: str
    kind: str
    unmarked: Callable[[str], Content | None]
    keeps_mark: bool

    @classmethod
    def at(cls, to: str, kind: str, unmarked: Callable[[str], Content | None], *, keeps_mark: bool) -> Place:
        return cls(os.path.realpath(to), kind, unmarked, keeps_mark)

    @property
    def part(self) -> str:
        return f"{self.to}.part"

    @property
    def old(self) -> str:
        return f"{self.to}.old"

    def content(self, folder: str) -> Content | None:
        """What of one of the three folders is ours; None where nothing says that we wrote it."""
        listed = marks.read(folder, self.kind)
        if listed:
            return marks.content(folder, listed)
        found = self.unmarked(folder)
        return found if listed is None or found else marks.content(folder, {})

    def check(self, wanted: Collection[str]) -> None:
        """Refuse, before any work, what would move or replace something that is not ours.

        Args:
            wanted: names of the entries that are going to be written.

        Raises:
            InputError: names what is in the way.
        """
        for path in (self.to, self.part, self.old):
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
                raise InputError(f"{path}: is no folder of ours", hint="move it away, or give another folder")
        for path in (self.part, self.old):
            if os.path.isdir(path) and os.listdir(path) and self.content(path) is None:
                raise InputError(
                    f"{path}: is in the way, and nothing in it says that lhq wrote it",
                    hint="move it away, or give another folder",
                )
        if os.path.isdir(self.old):
            self._refuse_foreign(self.old, None)
        if not os.path.isdir(self.to) or not os.listdir(self.to):
            return
        self._refuse_foreign(self.to, wanted)

    def _refuse_foreign(self, folder: str, wanted: Collection[str] | None) -> None:
        """Refuse what is not ours in a folder: all of it, or only what stands where we write or have written."""
        found = self.content(folder)
        if found is None:
            kind = self.kind if self.kind.endswith("s") else f"a {self.kind}"
            raise InputError(
                f"{folder}: is not empty, and not {kind} that lhq export wrote",
                hint="give an empty folder or one that does not exist yet",
            )
        mine = {path.split("/")[0] for path in found.ours}
        strange = sorted(
            path
            for path in found.foreign
            if wanted is None or path.split("/")[0] in mine or path.split("/")[0] in wanted
        )
        if strange:
            more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
            said = "changed since lhq wrote it" if set(strange) <= found.changed else "not written by lhq"
            raise InputError(
                f"{folder}: {', '.join(strange[:_SHOWN])}{more}: {said}, and would be replaced",
                hint="move that elsewhere, or give another folder",
            )

    def put_back(self) -> None:
        """Undo a replacement that was cut between its two renames; forget an old folder that is no longer needed."""
        if os.path.isdir(self.old):
            if os.path.exists(self.to):
                self._forget(self.old)
            else:
                os.rename(self.old, self.to)

    @contextmanager
    def building(self) -> Iterator[str]:
        """`DIR.part`, marked, and locked against a second run; what is in it stays if the block raises.

        Raises:
            StoreError: another process writes it, or it can't be made.
        """
        try:
            os.makedirs(self.part, exist_ok=True)
            handle = lock_folder(self.part)
        except BlockingIOError:
            raise StoreError(f"{self.part}: another process writes it", hint="wait for it to end") from None
        except OSError as error:
            raise StoreError(f"{self.part}: can't be made ({error})", hint="choose another folder") from error
        try:
            marks.begin(self.part, self.kind)
            yield self.part
        finally:
            os.close(handle)

    def put_in_place(self, written: Collection[str]) -> None:
        """`DIR.part` becomes `DIR`. What others put into the old `DIR` (a `.git`) moves along.

        Args:
            written: relative paths of the files that we wrote into `DIR.part`.

        Raises:
            StoreError: a rename failed; the old folder is in place, or is put back by the next run.
        """
        try:
            if self.keeps_mark:
                marks.finish(self.part, self.kind, iter(written))
            else:
                os.unlink(os.path.join(self.part, marks.NAME))
            if os.path.isdir(self.to):
                found = self.content(self.to)
                for name in sorted(found.foreign_entries()) if found else []:
                    if not os.path.lexists(os.path.join(self.part, name)):
                        os.rename(os.path.join(self.to, name), os.path.join(self.part, name))
                os.rename(self.to, self.old)
            os.rename(self.part, self.to)
            sync_folder(os.path.dirname(self.to))
        except OSError as error:
            raise StoreError(
                f"{self.to}: can't be put in place ({error})", hint="mend that and run the same again"
            ) from error
        if os.path.isdir(self.old):
            self._forget(self.old)

    def withdraw(self) -> bool:
        """Delete what we wrote of `DIR` and its neighbours; what others put there stays. True if there was any."""
        had = False
        for folder in (self.to, self.part, self.old):
            if os.path.isdir(folder) and not os.path.islink(folder) and self.content(folder) is not None:
                self._forget(folder)
                had = True
        return had

    def _forget(self, folder: str) -> None:
        found = self.content(folder)
        if found is not None:
            marks.delete(folder, found.ours)
