"""The documentation says what the program does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

import xsearch
from xsearch.cli.main import make_app

ROOT = Path(__file__).parent.parent


def _commands(group: Any, before: str = "") -> dict[str, Any]:
    """All commands by name; those of a group, such as `models pull`, with its name before them."""
    found = {}
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= _commands(command, f"{name} ") if inner else {f"{before}{name}": command}
    return found


COMMANDS = _commands(typer.main.get_command(make_app()))
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_command_is_documented_in_its_section(name: str) -> None:
    section = re.search(rf"^## xsearch {name}\b.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"no section for {name}"
    common = {"--library", "-l", "--help", "-h"}
    options = {
        option
        for parameter in COMMANDS[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }
    missing = {option for option in options - common if f"`{option}" not in section[0]}
    assert not missing, f"{name}: {missing}"


def test_every_documented_option_exists() -> None:
    known = {"--debug", "--version", "--install-completion", "--show-completion", "--library", "-l"}
    for command in COMMANDS.values():
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


def test_the_readme_opens_with_the_two_commands_that_do_everything() -> None:
    opening = (ROOT / "README.md").read_text(encoding="utf-8")[:1_500]
    assert '\npip install . && xsearch index ./photos && xsearch query "cat on grass"\n' in opening
    assert "\npip install -e '.[test]' && pytest\n" in opening


def test_every_public_name_exists_and_is_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in xsearch.__all__:
        assert getattr(xsearch, name) is not None
    errors = [name for name in xsearch.__all__ if name.endswith("Error") and name != "Error"]
    assert not [name for name in errors if f"`{name}`" not in page]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_a_verb_of_its_own_is_the_same_as_among_all() -> None:
    whole = typer.main.get_command(make_app())
    for verb, command in whole.commands.items():
        alone = typer.main.get_command(make_app(verb)).commands[verb]
        assert [one.opts for one in alone.params] == [one.opts for one in command.params]
        assert len(typer.main.get_command(make_app(verb)).commands) < len(whole.commands), verb
