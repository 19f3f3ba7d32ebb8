"""Awkward files of real cameras and programs: indexed, or listed with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from skimage import data as samples

import xsearch
from xsearch.core.formats import is_image_name
from xsearch.core.images import decode
from xsearch.retrieval.encoders import load_encoder


@pytest.fixture(scope="module")
def messy(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messy") / "files"
    shutil.copytree(shared_data / "messy", folder)
    return folder


@pytest.fixture(scope="module")
def before(messy: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in messy.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def indexed(
    messy: Path, before: dict[Path, tuple[bytes, int]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[xsearch.Library, xsearch.IndexReport]:
    library = xsearch.open(tmp_path_factory.mktemp("library"))
    return library, library.index(messy)


def test_every_messy_file_is_indexed_or_listed_with_a_reason(
    messy: Path, indexed: tuple[xsearch.Library, xsearch.IndexReport]
) -> None:
    library, report = indexed
    rows = [json.loads(line) for line in (messy / "manifest.jsonl").read_text().splitlines()]
    pictures = [row for row in rows if is_image_name(row["file"])]
    assert len(pictures) > 80
    expected = {messy / row["file"] for row in pictures if row["pillow_error"]}
    failed = {failure.path: failure.reason for failure in report.failures}
    assert set(failed) == expected
    assert report.added + report.failed == len(pictures)
    # The manifest, and whatever of the files is no picture by its name.
    assert report.skipped == len(rows) - len(pictures) + 1
    hits = library.search("anything", k=1_000)
    shown = {path for hit in hits for path in (hit.path, *hit.other_paths)}
    assert shown == {messy / row["file"] for row in pictures} - expected
    for reason in failed.values():
        assert reason
        assert "\n" not in reason
        assert "Traceback" not in reason
        assert "Error(" not in reason
    assert [failure.path for failure in library.failures()] == sorted(expected)


def test_files_of_the_user_are_never_changed(
    before: dict[Path, tuple[bytes, int]],
    indexed: tuple[xsearch.Library, xsearch.IndexReport],
    messy: Path,
) -> None:
    after = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in messy.rglob("*")
        if path.is_file()
    }
    assert after == before


def _cosines(pictures: list[PILImage.Image]) -> np.ndarray:
    """The cosines of all pairs, as the built-in encoder sees them."""
    encoder = load_encoder("builtin")
    vectors = encoder.embed_images(np.stack([encoder.preprocess(image) for image in pictures]))
    return vectors @ vectors.T


def _upright(paths: list[Path]) -> list[PILImage.Image]:
    return [decode(path, min_side=260).image for path in paths]


_UNDO = {
    1: None,
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_90,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_the_eight_orientations_of_a_picture_are_seen_upright(tmp_path: Path, suffix: str) -> None:
    upright = PILImage.fromarray(samples.chelsea()).resize((900, 600))
    paths = []
    for orientation, undo in _UNDO.items():
        turned = upright if undo is None else upright.transpose(undo)
        exif = PILImage.Exif()
        exif[0x0112] = orientation
        paths.append(tmp_path / f"{orientation}{suffix}")
        turned.save(paths[-1], exif=exif)
    assert _cosines(_upright(paths)).min() > 0.98
    # Turned pictures do differ for the encoder where nothing turns them back.
    upside_down = upright.transpose(PILImage.Transpose.ROTATE_180)
    assert _cosines([upright, upside_down]).min() < 0.98


@pytest.mark.parametrize("shape", ["landscape", "portrait"])
def test_the_orientations_of_a_cameras_test_pictures_are_seen_upright(
    shared_data: Path, shape: str
) -> None:
    folder = shared_data / "messy" / "exif_orientation"
    paths = sorted(path for path in folder.iterdir() if shape in path.name.lower())
    assert len(paths) == 5
    pictures = _upright(paths)
    for image in pictures:
        # Each has its number written on it.
        width, height = image.size
        box = (width * 2 // 5, height * 2 // 5, width * 3 // 5, height * 3 // 5)
        image.paste((128, 128, 128), box)
    assert _cosines(pictures).min() > 0.98
