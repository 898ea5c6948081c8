"""A dataset's folder → a repository of the Hugging Face Hub, in one commit, so that nobody sees half of it.

Neither uploads from before an interruption nor chunks of an earlier version are sent again.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from lhq.errors import InputError, KeyMissing, SourceError
from lhq.export import card, layout, ownership, previous
from lhq.rights.licences import HUB_LICENCES
from lhq.store import marker

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Pushed:
    """A dataset on the Hub: the repository's address, and our files in it."""

    address: str
    files: tuple[str, ...]


def check_name(repository: str) -> None:
    """Check a name `ORG/NAME` before any work starts.

    Raises:
        InputError: it is not one.
    """
    if not _NAME.fullmatch(repository) or "--" in repository or ".." in repository:
        raise InputError(f'"{repository}" is no repository', hint="give ORG/NAME, e.g. my-org/lhq-landscapes")


def push(folder: str, repository: str, *, public: bool = False) -> Pushed:
    """Upload a dataset that `lhq export` wrote.

    Files of an earlier push that this set no longer has are deleted in the same commit; files that others added stay.
    The card is checked before a repository is created.

    Args:
        repository: `ORG/NAME`; created if missing.
        public: whether a new repository is public.

    Raises:
        InputError: `repository` is not a name, the Hub refuses the card, or files that lhq did not write are in the
        way. KeyMissing: no token, or it may not write there. SourceError: the Hub can't be reached or refuses.
    """
    check_name(repository)
    import httpx
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not get_token():
        raise KeyMissing("no token of the Hugging Face Hub", hint="export HF_TOKEN, or run: hf auth login")
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(library_name="lhq")
    files = sorted(_files(folder))
    try:
        _check_card(api, folder)
        stale = _stale(api, repository, files)
        made = api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"lhq export: {_num_rows(folder):,} photos",
            allow_patterns=files,
            delete_patterns=stale or None,
        )
        return Pushed(str(made), tuple(files))
    except HFValidationError as error:
        raise InputError(f'"{repository}": {error}', hint="give ORG/NAME") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in {401, 403}:
            raise KeyMissing(
                f"the Hub refuses to write to {repository} (status {status})",
                hint="give HF_TOKEN a token with write access to it",
            ) from error
        raise _unreachable(repository, error) from error
    except (OSError, RuntimeError, httpx.HTTPError) as error:  # a failed upload comes as a RuntimeError
        raise _unreachable(repository, error) from error


def _files(folder: str) -> Iterator[str]:
    """Relative paths of the files to push: what the export wrote, nothing else in the folder."""
    found = ownership.dataset(folder).contents(folder)
    if found is None or not os.path.isfile(os.path.join(folder, layout.CARD)):
        raise InputError(f"{folder}: is not a dataset that lhq export wrote", hint="run lhq export first")
    return (path for path in found.ours if path != marker.NAME)


def _check_card(api: HfApi, folder: str) -> None:
    """Check the card before anything is created on the Hub: first against our own list, which needs no network, then
    by the Hub."""
    from huggingface_hub import DatasetCard
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import get_session, hf_raise_for_status

    written = DatasetCard.load(os.path.join(folder, layout.CARD))
    licences = written.data.license if isinstance(written.data.license, list) else [written.data.license]
    wrong = [one for one in licences if one != "other" and one not in HUB_LICENCES]
    wrong += [one for one in written.data.size_categories or [] if one not in layout.SIZE_CATEGORIES]
    if wrong:
        raise InputError(
            f"{folder}/{layout.CARD}: the Hub knows no {', '.join(map(str, wrong))}", hint="run lhq export again"
        )
    asked = {"repoType": "dataset", "content": str(written)}
    answer = get_session().post(f"{api.endpoint}/api/validate-yaml", json=asked, headers=build_hf_headers())
    if answer.status_code == 400:
        said = "; ".join(str(one.get("message", one)) for one in answer.json().get("errors", []))[:300]
        raise InputError(f"{folder}/{layout.CARD}: the Hub refuses it: {said}", hint="report it: lhq wrote it")
    hf_raise_for_status(answer)


def _stale(api: HfApi, repository: str, files: list[str]) -> list[str]:
    """Files of an earlier push that this one does not have, recognised by content: their hashes match the
    repository's `croissant.json`.

    Raises:
        InputError: the repository holds files under our names that no push of ours left there, or that were changed.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    try:
        tree = list(api.list_repo_tree(repository, repo_type="dataset", recursive=True))
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 404:
            return []
        raise
    there = {one.path: _sha256(one) for one in tree if isinstance(one, RepoFile)}
    with tempfile.TemporaryDirectory() as scratch:

        def fetched(path: str) -> str:
            return str(api.hf_hub_download(repository, path, repo_type="dataset", local_dir=scratch))

        listed = previous.listed(fetched(layout.CROISSANT)) if layout.CROISSANT in there else {}
        ours = {path for path in listed.keys() & there.keys() if (there[path] or _hash(fetched(path))) == listed[path]}
        if layout.MANIFEST in ours:  # then the list itself is ours, and so may the card be, which it can't hold
            ours.add(layout.CROISSANT)
            if layout.CARD in there and _is_our_card(fetched):
                ours.add(layout.CARD)
    strange = sorted(set(files) & there.keys() - ours)
    if strange:
        raise InputError(
            f"{repository}: holds {', '.join([*strange[:3], *('…' for _ in strange[3:4])])}, "
            + ("changed since lhq pushed them" if layout.MANIFEST in ours else "which no push of lhq left"),
            hint="save and delete them there, or give another repository",
        )
    return sorted(ours - set(files))


def _sha256(there: RepoFile) -> str:
    """A large file's sha256; "" for a small one, of which the Hub knows none."""
    return there.lfs.sha256 if there.lfs else ""


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_our_card(fetched: Callable[[str], str]) -> bool:
    """Whether the repository's card is unchanged since a push. Cards of the first versions are unsigned, as their
    manifest says."""
    if card.is_as_written(path := fetched(layout.CARD), may_be_unsigned=False):
        return True
    return (
        card.is_as_written(path, may_be_unsigned=True)
        and "permits" not in pq.read_schema(fetched(layout.MANIFEST)).names
    )


def _unreachable(repository: str, error: Exception) -> SourceError:
    said = " ".join(str(error).split())[:200]
    return SourceError(f"pushing to {repository}: {said}", hint="run the same command again: nothing is sent twice")


def _num_rows(folder: str) -> int:
    return int(pq.read_metadata(os.path.join(folder, layout.MANIFEST)).num_rows)
