"""A dataset's folder → a repository of the Hugging Face Hub, in one commit: it is never seen half.

What was uploaded before an interruption is not sent again, nor are the chunks that an earlier version has.
"""

from __future__ import annotations

import os
import re
import sys

import pyarrow.parquet as pq

from lhq.errors import InputError, KeyMissing, SourceError
from lhq.export import layout

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_name(repository: str) -> None:
    """`ORG/NAME`, before any work is done for it.

    Raises:
        InputError: it is none.
    """
    if not _NAME.fullmatch(repository) or "--" in repository or ".." in repository:
        raise InputError(f'"{repository}" is no repository', hint="give ORG/NAME, e.g. my-org/lhq-landscapes")


def push(folder: str, repository: str, *, public: bool = False) -> str:
    """Upload a dataset that `lhq export` wrote; returns the repository's address.

    Data files of an earlier version that this one has not are deleted by the same commit; files that others
    added to the repository stay.

    Args:
        repository: `ORG/NAME`; made if it is not there.
        public: whether a new repository is public.

    Raises:
        InputError: `repository` is no name.
        KeyMissing: no token, or it may not write there.
        SourceError: the Hub can't be reached or refuses.
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
    try:
        made = api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"lhq export: {_num_rows(folder):,} photos",
            allow_patterns=[*layout.PAGES, "data/*.parquet", "data-*/*.parquet"],
            delete_patterns=["data/*.parquet", "data-*/*.parquet"],
        )
        return str(made)
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


def _unreachable(repository: str, error: Exception) -> SourceError:
    said = " ".join(str(error).split())[:200]
    return SourceError(f"pushing to {repository}: {said}", hint="run the same command again: nothing is sent twice")


def _num_rows(folder: str) -> int:
    return int(pq.read_metadata(os.path.join(folder, layout.MANIFEST)).num_rows)
