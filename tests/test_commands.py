"""Every command has help with an example, and is described in the README or in docs/."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import alis.cli
import lhq.cli

ROOT = Path(__file__).parents[1]
DOORS = {"lhq": lhq.cli.cli, "alis": alis.cli.cli}


def _commands() -> list[tuple[str, ...]]:
    found = []
    for name, door in DOORS.items():
        context = click.Context(door)
        for child in door.list_commands(context):
            command = door.get_command(context, child)
            if isinstance(command, click.Group):
                found += [(name, child, grandchild) for grandchild in command.list_commands(context)]
            else:
                found.append((name, child))
    return found


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_command_explains_itself(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(DOORS[words[0]], [*words[1:], "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Example" in shown.output, f"{' '.join(words)} --help shows no example"


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_command_is_documented(words: tuple[str, ...]) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(" ".join(words) in page.read_text(encoding="utf-8") for page in pages), (
        f"no page says what `{' '.join(words)}` does"
    )


@pytest.mark.parametrize("name", DOORS)
def test_every_listed_command_is_there(name: str) -> None:
    door = DOORS[name]
    listed = lhq.cli.COMMANDS if name == "lhq" else alis.cli.COMMANDS
    assert door.list_commands(click.Context(door)) == list(listed)


@pytest.mark.parametrize("name", DOORS)
def test_unknown_command_is_one_line_and_exit_2(name: str) -> None:
    done = CliRunner().invoke(DOORS[name], ["nosuch"])
    assert done.exit_code == 2
    assert "nosuch" in done.output
