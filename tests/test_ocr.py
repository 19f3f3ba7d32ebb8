"""Pictures are found by the text that can be read in them, where that was asked for."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from support import ColourEncoder, age, open_colour, write_picture, write_pictures
from test_words import all_documents, assert_true, found

import xsearch


class Painter:
    """Reads the brightness of a picture as a text: `grey 64`."""

    name = "painter 1"

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def read(self, image: Image.Image) -> str:
        self.sizes.append(image.size)
        return f"grey {round(float(np.asarray(image).mean()))}"


def write_grey(path: Path, brightness: int, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (brightness,) * 3).save(path)
    return age(path)


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> Painter:
    reader = Painter()
    monkeypatch.setattr("xsearch.indexer.run.load_reader", lambda: reader)
    return reader


@pytest.fixture
def library(tmp_path: Path) -> Iterator[xsearch.Library]:
    with open_colour(tmp_path / "library") as opened:
        yield opened


def looked_at(library: xsearch.Library) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        return catalog.execute("SELECT text, engine FROM ocr ORDER BY item_id").fetchall()


def test_text_is_read_only_where_it_is_asked_for(
    library: xsearch.Library, painter: Painter, tmp_path: Path
) -> None:
    write_grey(tmp_path / "photos" / "a.png", 64)
    assert library.index(tmp_path / "photos").ocr == 0
    assert looked_at(library) == [] and found(library, "64") == set()


def test_pictures_indexed_before_are_read_too_and_each_only_once(
    library: xsearch.Library, painter: Painter, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for brightness in (64, 128):
        write_grey(photos / f"{'ab'[brightness // 128]}.png", brightness)
    library.index(photos)
    write_grey(photos / "c.png", 192)
    assert library.index(ocr=True).ocr == 3
    assert looked_at(library) == [(f"grey {shade}", "painter 1") for shade in (64, 128, 192)]
    assert found(library, "128") == {"b.png"} and len(found(library, "grey")) == 3
    assert library.index(ocr=True).ocr == 0
    (photos / "a.png").rename(photos / "moved.png")
    assert library.index(ocr=True).ocr == 0
    assert len(painter.sizes) == 3
    assert found(library, "64") == {"moved.png"}
    assert_true(library)


def test_text_is_read_at_a_size_that_letters_need(
    library: xsearch.Library, painter: Painter, tmp_path: Path
) -> None:
    write_grey(tmp_path / "photos" / "a.jpg", 64, (4000, 3000))
    library.index(tmp_path / "photos", ocr=True)
    assert painter.sizes == [(2000, 1500)]


def test_an_edited_picture_is_read_anew_and_a_deleted_one_forgotten(
    library: xsearch.Library, painter: Painter, tmp_path: Path
) -> None:
    path = write_grey(tmp_path / "photos" / "a.png", 64)
    library.index(tmp_path / "photos", ocr=True)
    age(write_grey(path, 128), 10)
    assert library.index(ocr=True).ocr == 1
    assert found(library, "64") == set() and found(library, "128") == {"a.png"}
    assert len(looked_at(library)) == 2
    library.compact()
    assert looked_at(library) == [("grey 128", "painter 1")]
    assert_true(library)


def test_what_cannot_be_opened_now_is_read_by_a_later_run(
    library: xsearch.Library, painter: Painter, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    write_grey(photos / "a.png", 64)
    library.index(photos)
    photos.rename(tmp_path / "unplugged")
    report = library.index(ocr=True)
    assert report.ocr == 0 and any("1 pictures cannot be opened" in w for w in report.warnings)
    (tmp_path / "unplugged").rename(photos)
    report = library.index(ocr=True)
    assert report.ocr == 1 and not report.warnings


def test_what_was_read_before_ctrl_c_is_kept(
    library: xsearch.Library, painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "photos", 5)
    read = painter.read
    interrupted = iter([False, False, True])

    def impatient(image: Image.Image) -> str:
        if next(interrupted, False):
            raise KeyboardInterrupt
        return read(image)

    monkeypatch.setattr(painter, "read", impatient)
    with pytest.raises(KeyboardInterrupt):
        library.index(tmp_path / "photos", ocr=True)
    assert len(looked_at(library)) == 2
    assert_true(library)
    assert library.index(ocr=True).ocr == 3
    assert len(painter.sizes) == 5


def test_without_the_extra_nothing_is_changed_and_the_message_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "photos", 1)
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.delitem(sys.modules, "rapidocr.main", raising=False)
    with (
        xsearch.open(tmp_path / "library", encoder=ColourEncoder()) as library,
        pytest.raises(xsearch.MissingExtraError, match=r"pip install 'xsearch-engine\[ocr\]'"),
    ):
        library.index(tmp_path / "photos", ocr=True)
    with closing(sqlite3.connect(tmp_path / "library" / "catalog.db")) as catalog:
        assert catalog.execute("SELECT count(*) FROM roots").fetchone() == (0,)


@pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None, reason="needs the extra `ocr` (rapidocr)"
)
def test_printed_words_are_read_by_the_engine_of_the_extra(
    library: xsearch.Library, tmp_path: Path
) -> None:
    sign = Image.new("RGB", (800, 400), "white")
    drawing = ImageDraw.Draw(sign)
    font = ImageFont.load_default(size=48)
    drawing.text((40, 60), "Harbour Cafe", font=font, fill="black")
    drawing.text((40, 200), "Invoice 2041", font=font, fill=(160, 0, 0))
    (tmp_path / "photos").mkdir()
    sign.save(tmp_path / "photos" / "sign.png")
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "photos" / "wall.png")
    write_picture(tmp_path / "photos" / "other.jpg", 1)
    assert library.index(tmp_path / "photos", ocr=True).ocr == 3
    assert found(library, "harbour cafes") == {"sign.png"}
    assert found(library, "", "invoice 2041") == {"sign.png"}
    assert ("", looked_at(library)[0][1]) in looked_at(library)
    assert len(all_documents(library)) == 3
