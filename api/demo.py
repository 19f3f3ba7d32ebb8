"""Sample photographs for those who have none at hand, from packages that carry them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from xsearch.core.errors import MissingExtraError, StorageError
from xsearch.core.paths import absolute, displayable

# Photographs only: test patterns, plots and microscope slides are left out.
_PHOTOS = {
    "skimage/data": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "moon.png",
        "motorcycle_left.png",
        "page.png",
        "rocket.jpg",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}


def write_demo_photos(folder: str | os.PathLike[str]) -> list[Path]:
    """Copy sample photographs into a folder, which is made; returns the files.

    A file that is there already is left as it is.

    Raises:
        MissingExtraError: scikit-image and scikit-learn are not installed.
        StorageError: the folder cannot be written to.
    """
    target = absolute(folder)
    written = []
    for source, names in _PHOTOS.items():
        package, _, inside = source.partition("/")
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise MissingExtraError(
                "the sample photographs come with scikit-image and scikit-learn; install them "
                "with: pip install 'xsearch-engine[demo]'"
            )
        place = Path(found.submodule_search_locations[0]) / inside
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                # Releases differ in which pictures they carry.
                if (place / name).is_file():
                    written.append(target / name)
                    if not (target / name).exists():
                        shutil.copyfile(place / name, target / name)
        except OSError as error:
            raise StorageError(
                f"{displayable(target)}: cannot be written to ({error.strerror or error})"
            ) from error
    return written
