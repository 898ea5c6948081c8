"""What the site shows that lies outside docs/: the front page from README.md, the change log.

Pages are written to be read in the repository as well, so a link to a file outside docs/ is kept as text here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)[^)]*\)")
_FILES = re.compile(r"\[([^\]]+)\]\((?:pipelines|benchmarks|CONTRIBUTING|LICENSE|SECURITY|CITATION)[^)]*\)")
_ALIAS = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: Any) -> Files:
    for name, source in _ALIAS.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)
        text = _FILES.sub(r"\1", text)
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return re.sub(r"!\[[^\]]*\]\(\.\./[^)]*\)", "", _OUTSIDE.sub(r"\1", markdown))
