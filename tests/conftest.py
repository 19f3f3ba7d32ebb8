"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import open_colour

import xsearch

_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared test data (`$XSEARCH_TEST_DATA`, else `../shared/data`); skips where absent."""
    folder = Path(os.environ.get("XSEARCH_TEST_DATA") or _DATA)
    if not folder.is_dir():
        pytest.skip(f"the shared test data is not at {folder} (set XSEARCH_TEST_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's own library, or touches it."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME", "LOCALAPPDATA", "APPDATA"):
            patch.setenv(name, home)
        for name in ("XSEARCH_LIBRARY", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An empty folder for pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[xsearch.Library]:
    """An empty library with the encoder of colours."""
    with open_colour(tmp_path / "library") as opened:
        yield opened
