"""What every collection of foreign vectors offers, whatever program made it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.formats import is_image_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Multiplying by it modulo 2^32 shuffles row numbers (Knuth, The Art of Computer Programming,
# volume 3, section 6.4): a sample in this order comes from everywhere.
SHUFFLED = "rowid * 2654435761 % 4294967296"

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def picture_at(path: str) -> Path | None:
    """The picture at a path, which may lack its suffix; None where there is none."""
    suffixes = ("",) if is_image_name(path) else ("", *_SUFFIXES)
    # Unlike that of a Path it never raises, whatever was recorded.
    places = (path + suffix for suffix in suffixes if os.path.isfile(path + suffix))  # noqa: PTH113
    return next(map(Path, places), None)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A vector as it was recorded, float32 (n,), of any length and perhaps not finite.

    `size` (bytes) and `mtime` (seconds since 1970) are those of the file that it was made of,
    where the program recorded them.
    """

    vector: NDArray[np.float32]
    size: int | None = None
    mtime: float | None = None


class Source(ABC):
    """Vectors by picture.

    Attributes:
        place: the folder or file that holds them.
        program: what made them, for messages.
        count: how many there are.
        dim: their dimension.
        encoder: the model that made them, as far as that is recorded.
        upright: whether the pictures were turned upright by their EXIF orientation first.
        moved: what to do where none of the pictures is found.
    """

    place: Path
    program: str
    count: int
    dim: int
    encoder: str | None
    upright: bool
    moved: str

    @abstractmethod
    def find(self, path: str) -> Recorded | None:
        """The vector of the picture at an absolute path; None where there is none.

        Raises:
            SourceError: the files turned out to be damaged.
        """

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """The absolute paths of all pictures, shuffled, in the same order every time.

        A name without a suffix stands for a picture of any suffix.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what is open."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
