"""A folder that has its final name if and only if it is complete: written under another name, then renamed.

`DIR.part` is the folder being written; it survives an interruption. `DIR.old` exists only between two renames, and is
restored after an interruption there. None of the three is modified unless a marker shows that lhq wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lhq.errors import InputError, StoreError
from lhq.store import marker
from lhq.store.marker import Contents
from lhq.system import lock_folder, sync_folder

_SHOWN = 3


@dataclass(frozen=True)
class AtomicFolder:
    """A folder that is replaced as a whole.

    Args:
        path: with links resolved, so that a link's target is replaced and not the link.
        kind: of the marker, such as `export`.
        unmarked: lists a folder without a marker by inspecting its files; None if it isn't ours.
        keeps_mark: leave the marker in the finished folder, because its files alone don't identify it as ours.
    """

    path: str
    kind: str
    unmarked: Callable[[str], Contents | None]
    keeps_mark: bool

    @classmethod
    def at(cls, path: str, kind: str, unmarked: Callable[[str], Contents | None], *, keeps_mark: bool) -> AtomicFolder:
        return cls(os.path.realpath(path), kind, unmarked, keeps_mark)

    @property
    def part(self) -> str:
        return f"{self.path}.part"

    @property
    def old(self) -> str:
        return f"{self.path}.old"

    def contents(self, folder: str) -> Contents | None:
        """Which files of one of the three folders are ours; None if nothing shows that lhq wrote it."""
        marked = marker.read(folder, self.kind)
        if marked:
            return marker.contents(folder, marked)
        contents = self.unmarked(folder)
        return contents if marked is None or contents else marker.contents(folder, {})

    def check(self, entries: Collection[str]) -> None:
        """Check, before any work, that nothing would be moved or replaced that isn't ours.

        Args:
            entries: names of the entries that will be written.

        Raises:
            InputError: names what is in the way.
        """
        for path in (self.path, self.part, self.old):
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
                raise InputError(f"{path}: is no folder of ours", hint="move it away, or give another folder")
        for path in (self.part, self.old):
            if os.path.isdir(path) and os.listdir(path) and self.contents(path) is None:
                raise InputError(
                    f"{path}: is in the way, and nothing in it says that lhq wrote it",
                    hint="move it away, or give another folder",
                )
        if os.path.isdir(self.old):
            self._refuse_foreign(self.old, None)
        if not os.path.isdir(self.path) or not os.listdir(self.path):
            return
        self._refuse_foreign(self.path, entries)

    def _refuse_foreign(self, folder: str, entries: Collection[str] | None) -> None:
        """Refuse foreign files in a folder: any (`entries` None), or those under names that we write or wrote."""
        contents = self.contents(folder)
        if contents is None:
            kind = self.kind if self.kind.endswith("s") else f"a {self.kind}"
            raise InputError(
                f"{folder}: is not empty, and not {kind} that lhq export wrote",
                hint="give an empty folder or one that does not exist yet",
            )
        own_entries = {path.split("/")[0] for path in contents.ours}
        foreign = sorted(
            path
            for path in contents.foreign
            if entries is None or path.split("/")[0] in own_entries or path.split("/")[0] in entries
        )
        if foreign:
            more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
            is_changed = set(foreign) <= contents.changed
            reason = "changed since lhq wrote it" if is_changed else "not written by lhq"
            raise InputError(
                f"{folder}: {', '.join(foreign[:_SHOWN])}{more}: {reason}, and would be replaced",
                hint="move that elsewhere (all of the folder, if lhq verify finds it damaged), or give another"
                if is_changed
                else "move that elsewhere, or give another folder",
            )

    def recover(self) -> None:
        """Undo a commit that was interrupted between its two renames; delete an old folder that is left over."""
        if os.path.isdir(self.old):
            if os.path.exists(self.path):
                self._delete_ours(self.old)
            else:
                os.rename(self.old, self.path)

    @contextmanager
    def building(self) -> Iterator[str]:
        """Create, mark and lock `DIR.part`; its contents stay if the block raises.

        Raises:
            StoreError: another process is writing it, or it can't be created.
        """
        try:
            os.makedirs(self.part, exist_ok=True)
            handle = lock_folder(self.part)
        except BlockingIOError:
            raise StoreError(f"{self.part}: another process writes it", hint="wait for it to end") from None
        except OSError as error:
            raise StoreError(f"{self.part}: can't be made ({error})", hint="choose another folder") from error
        try:
            marker.begin(self.part, self.kind)
            yield self.part
        finally:
            os.close(handle)

    def commit(self, written: Collection[str]) -> None:
        """Replace `DIR` by `DIR.part`. Foreign entries of the old `DIR`, such as `.git`, are kept.

        Args:
            written: relative paths of the files that we wrote into `DIR.part`.

        Raises:
            StoreError: a rename failed; the old folder is in place, or is restored by the next run.
        """
        try:
            if self.keeps_mark:
                marker.finish(self.part, self.kind, iter(written))
            else:
                os.unlink(os.path.join(self.part, marker.NAME))
            if os.path.isdir(self.path):
                contents = self.contents(self.path)
                for name in sorted(contents.foreign_entries()) if contents else []:
                    if not os.path.lexists(os.path.join(self.part, name)):
                        os.rename(os.path.join(self.path, name), os.path.join(self.part, name))
                os.rename(self.path, self.old)
            os.rename(self.part, self.path)
            sync_folder(os.path.dirname(self.path))
        except OSError as error:
            raise StoreError(
                f"{self.path}: can't be put in place ({error})", hint="mend that and run the same again"
            ) from error
        if os.path.isdir(self.old):
            self._delete_ours(self.old)

    def withdraw(self) -> bool:
        """Delete our files in `DIR`, `DIR.part` and `DIR.old`, but no foreign ones; return whether there were any."""
        found_any = False
        for folder in (self.path, self.part, self.old):
            if os.path.isdir(folder) and not os.path.islink(folder) and self.contents(folder) is not None:
                self._delete_ours(folder)
                found_any = True
        return found_any

    def _delete_ours(self, folder: str) -> None:
        contents = self.contents(folder)
        if contents is not None:
            marker.delete(folder, contents.ours)
