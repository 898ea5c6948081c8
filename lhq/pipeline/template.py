"""A few answers, or the name of a shipped pipeline → a commented pipeline file, ready to run or to fill in."""

from __future__ import annotations

import json
from dataclasses import dataclass

from lhq.pipeline.places import SHIPPED

# Source → its table, with what a crawl needs in comments.
_TABLES = {
    "sandbox": """
# The services in a box: painted scenes on this machine, no keys and no network.
[sandbox]
port = 8210                     # part of every photo's URL: keep it as long as the store

[source.flickr]
""",
    "flickr": """
# Needs FLICKR_API_KEY and FLICKR_API_SECRET in the environment (flickr.com/services/apps/create).
[source.flickr]
licences = ["cc-by-2.0", "cc-by-4.0", "cc-by-sa-2.0", "cc-by-sa-4.0", "cc0-1.0", "pdm-1.0", "us-gov"]
""",
    "unsplash": """
# Needs UNSPLASH_ACCESS_KEY in the environment (unsplash.com/oauth/applications), and Unsplash's permission to train
# on its photos: ask, then write here what they allowed.
[source.unsplash]
# permission = { permits = ["train"], statement = "what they allowed, word for word", by = "who", on = 2026-05-01 }
""",
    "commons": """
# No key; [http] contact is required.
[source.commons]
per_query = 100
""",
    "folder": """
# Your own photographs, read where they are.
[source.folder]
path    = {folder}
licence = "own"                 # for photos of others: the id of their licence, e.g. "cc-by-4.0"
author  = ""                    # required where the licence asks for attribution
""",
    "unsplash_dataset": """
# The tables of the Unsplash Dataset as unpacked (unsplash.com/data); no key.
[source.unsplash_dataset]
path    = {folder}
edition = "lite"                # "full": millions of photos, non-commercial
""",
}
SOURCES = tuple(_TABLES)
_PUBLISH = {"flickr": "bytes", "commons": "bytes", "folder": "private", "sandbox": "private"}
NEEDS_FOLDER = ("folder", "unsplash_dataset")


@dataclass(frozen=True)
class Answers:
    """What `lhq init` asks for.

    `queries` is "landscapes", a path or a comma-separated list; where it is empty the file has no such key, and no
    `want` where that is 0. `folder` is for sources on this disk. `can_see` says whether the object detector's packages
    are installed; without them its table is commented out.
    """

    name: str
    source: str
    queries: str = ""
    want: int = 0
    min_side_px: int = 1024
    folder: str = ""
    can_see: bool = True


def text(answers: Answers) -> str:
    """The file, with a comment on every line that may need a change."""
    side = answers.min_side_px
    variant = next((side_px for side_px in (1024, 512, 256, 128, 64) if side_px <= side), side)
    return f"""# Made by lhq init. Paths are relative to this file; `lhq init --keys` prints every key.
# Next: lhq crawl THIS_FILE --dry-run, then lhq run THIS_FILE. Stopped? Run the same command again to go on.

# A folder; or s3://bucket/folder, with a line local = "folder" for the files that need this machine's disk.
store   = {_spelt("data/" + answers.name)}
{_search(answers)}{_TABLES[answers.source].replace("{folder}", _spelt(answers.folder))}min_side_px = {side}

# The order of the tables is the order of judgement: the first that drops a photo is its reason.
[filter.size]
min_side_px = {side}

[filter.duplicates]

{_objects(answers)}

[export]
name     = {_spelt(answers.name)}
variants = ["{variant}"]             # short side of a centre crop; "full" leaves photos as they are
publish  = "{_PUBLISH.get(answers.source, "manifest")}"           # "bytes", "manifest" (ids and URLs only) or "private"
"""


def copied(name: str) -> str:
    """A shipped pipeline, with paths relative to the copy's folder instead of the parent of `pipelines`."""
    return (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").replace('"../', '"')


def _search(answers: Answers) -> str:
    """The queries, how many photos to fetch, and who is asking."""
    queries, said = answers.queries.strip(), ""
    if queries:
        listed = [query.strip() for query in queries.split(",") if query.strip()]
        is_list = len(listed) > 1 or (" " in queries and not queries.endswith(".txt"))
        said += f"""
# "landscapes" (the 400 that come with lhq), a .txt file or a folder of them, or a list.
queries = {"[" + ", ".join(map(_spelt, listed)) + "]" if is_list else _spelt(queries)}
"""
    if answers.want:
        said += f"""
# Photos to fetch; the filter keeps some of them.
want    = {answers.want}
"""
    if answers.source != "folder":
        said += """
[http]
contact = ""                    # your e-mail address or page, sent to every host in the User-Agent
"""
    return said


def _objects(answers: Answers) -> str:
    """The object filter; commented out for a folder, and where its packages are not installed."""
    off = "# " if answers.source == "folder" or not answers.can_see else ""
    how = "uncomment these two lines to use it" if off else "without it, delete these two lines"
    if answers.source == "sandbox":
        return f"""# Painted objects in the foreground. Needs pip install 'lhq[ml]';
# {how}.
{off}[filter.objects]
{off}weights = "sandbox"             # a small detector that knows the painted scenes only"""
    return f"""# People, animals, vehicles, buildings. Needs pip install 'lhq[ml]' and, once, a network for the weights;
# {how}.
{off}[filter.objects]
{off}weights = "coco\""""


def _spelt(value: str) -> str:
    """A TOML string."""
    return json.dumps(value, ensure_ascii=False)
