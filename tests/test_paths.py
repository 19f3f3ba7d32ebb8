"""Paths as text that a database stores and as text that people see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xsearch.core.paths import absolute, displayable, from_stored, to_stored

# Names on Linux are any bytes; on Windows any 16-bit units, half characters among them.
linux = st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
windows = st.lists(st.integers(0, 0xFFFF)).map(
    lambda units: b"".join(unit.to_bytes(2, "little") for unit in units).decode(
        "utf-16-le", "surrogatepass"
    )
)
# Characters near those that the stored form uses for itself.
private = st.text(st.characters(min_codepoint=0x10F000, max_codepoint=0x10FFFF))
names = linux | windows | private | st.text()


@given(names)
@example("")
@example("caf\udce9")
@example("\U0010ffe9")
@example("\U0010ff80\udc80é\U0010ffff")
@example("\ud83d.jpg")
@example("\udc00\U0010f000")
def test_a_path_survives_being_stored(path: str) -> None:
    stored = to_stored(path)
    stored.encode()  # valid Unicode, whatever the path
    assert from_stored(stored) == path


@given(names, names)
def test_different_paths_are_stored_differently(one: str, other: str) -> None:
    assert (to_stored(one) == to_stored(other)) == (one == other)


@given(st.lists(st.text(st.sampled_from("ab\udce9é/\U0010ff90"), min_size=1), min_size=2))
def test_a_stored_path_is_that_of_its_parts_joined(parts: list[str]) -> None:
    # The catalog joins and splits stored paths at slashes, and compares their beginnings.
    assert "/".join(map(to_stored, parts)) == to_stored("/".join(parts))


@given(names)
def test_any_path_can_be_shown(path: str) -> None:
    shown = displayable(path)
    assert shown.isprintable()
    shown.encode()
    if path.isprintable() and path.isascii():
        assert shown == path


def test_what_cannot_be_shown_is_escaped() -> None:
    assert displayable("caf\udce9") == "caf\\xe9"
    assert displayable("one\ntwo\x1b[0m") == "one\\ntwo\\x1b[0m"
    assert displayable(Path("ünï 🐈.jpg")) == "ünï 🐈.jpg"


def test_an_absolute_path_is_normal_and_keeps_links_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert absolute("a/../b/.") == tmp_path / "b"
    assert absolute("~/b") == tmp_path / "b"
    assert absolute("link/x") == tmp_path / "link" / "x"
    assert os.fspath(absolute(".")) == str(tmp_path)
