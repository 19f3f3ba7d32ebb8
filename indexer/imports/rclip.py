"""The database of rclip: SQLite, a row a picture, with size and time of the file."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xsearch.core.errors import SourceError
from xsearch.core.paths import absolute, displayable, from_stored, to_stored
from xsearch.indexer.imports.source import SHUFFLED, Recorded, Source

DATABASE = "db.sqlite3"

# The version of the database names the model: rclip 1 and 2 left 1 and 2, rclip 3.0 changed
# the model and made it 3, rclip 3.3 added a column and made it 4.
_MODELS = {
    1: "ViT-B-32-quickgelu/openai",
    2: "ViT-B-32-quickgelu/openai",
    3: "ViT-B-32-256/datacomp_s34b_b86k",
    4: "ViT-B-32-256/datacomp_s34b_b86k",
}
_COLUMNS = {"deleted", "filepath", "modified_at", "size", "vector"}


def default_database() -> Path:
    """Where rclip keeps its database on this system, or its snap does.

    Raises:
        SourceError: there is none.
    """
    places = _places()
    for place in places:
        if (place / DATABASE).is_file():
            return place / DATABASE
    raise SourceError(
        f"no database of rclip at {displayable(places[0] / DATABASE)}: name the file that is yours"
    )


def _places() -> list[Path]:
    given = os.environ.get("RCLIP_DATADIR")
    if given:
        return [Path(given)]
    home = Path.home()
    if sys.platform == "win32":
        return [home / "AppData" / "Roaming" / "rclip"]
    if sys.platform == "darwin":
        return [home / "Library" / "Application Support" / "rclip"]
    inside = Path(".local", "share", "rclip")
    return [home / inside, home / "snap" / "rclip" / "current" / inside]


class Rclip(Source):
    """Vectors out of rclip's database, which is only read. Pictures it marks as gone are not."""

    program = "rclip"
    upright = False
    moved = "It knows them by these paths alone: bring them back there, or index them afresh."

    def __init__(self, place: str | os.PathLike[str]) -> None:
        given = absolute(place)
        self.place = given / DATABASE if given.is_dir() else given
        if not self.place.is_file():
            raise SourceError(f"{displayable(self.place)}: there is no such database of rclip")
        try:
            self._connection = sqlite3.connect(f"{self.place.as_uri()}?mode=ro", uri=True)
            try:
                self._look()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _look(self) -> None:
        columns = {row[1] for row in self._connection.execute("PRAGMA table_info(images)")}
        if not columns >= _COLUMNS:
            raise SourceError(f"{displayable(self.place)}: this is no database of rclip")
        version = self._one("SELECT version FROM db_version") or 1
        self.encoder = _MODELS.get(version)
        self.count = self._one("SELECT count(*) FROM images WHERE deleted IS NULL")
        longest = self._one("SELECT max(length(vector)) FROM images WHERE deleted IS NULL")
        if not longest:
            raise SourceError(f"{displayable(self.place)}: rclip has not indexed anything yet")
        self.dim = longest // 4

    def _one(self, query: str) -> int:
        row = self._connection.execute(query).fetchone()
        return int(row[0] or 0) if row else 0

    def find(self, path: str) -> Recorded | None:
        """The vector of a picture by its absolute path."""
        query = (
            "SELECT vector, size, modified_at FROM images WHERE filepath = ? AND deleted IS NULL"
        )
        try:
            row = self._connection.execute(query, (to_stored(path),)).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        if row is None:
            return None
        vector, size, mtime = row
        whole = isinstance(vector, bytes) and len(vector) == self.dim * 4
        numbers = np.frombuffer(vector if whole else b"", "<f4").astype(np.float32)
        # A damaged time equals none.
        time = float(mtime) if isinstance(mtime, int | float) else math.nan
        return Recorded(numbers, size, time)

    def paths(self) -> Iterator[str]:
        """The paths that rclip knows, shuffled."""
        query = f"SELECT filepath FROM images WHERE deleted IS NULL ORDER BY {SHUFFLED}"
        try:
            for (path,) in self._connection.execute(query):
                yield from_stored(str(path))
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _damaged(self, error: sqlite3.Error) -> SourceError:
        return SourceError(f"{displayable(self.place)}: no database of rclip, or damaged ({error})")
