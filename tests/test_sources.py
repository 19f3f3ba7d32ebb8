"""Texts: files of lines and rows, sidecars beside pictures, captions inside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as PILImage
from support import age, picture, write_picture, write_pictures, write_text

import xsearch

ALL = 10_000


def texts(library: xsearch.Library) -> dict[str, xsearch.Hit]:
    """Every text that can be found, with its hit."""
    return {hit.text or "": hit for hit in library.search("anything", k=ALL, target="text")}


def found(library: xsearch.Library, text: str) -> xsearch.Hit:
    """The hit of a text that is in the library."""
    hit = library.search(text, k=1, target="text")[0]
    assert hit.text == text
    assert hit.kind == "text"
    return hit


# Files of texts


def test_each_line_of_a_text_file_is_a_text(library: xsearch.Library, tmp_path: Path) -> None:
    path = write_text(tmp_path / "notes.txt", "a cat\n\n  a dog \r\na form\x0cfeed\nlast")
    report = library.index(path)
    assert (report.added, report.texts, report.embedded, report.decoded) == (1, 4, 4, 0)
    assert set(texts(library)) == {"a cat", "a dog", "a form\x0cfeed", "last"}
    assert found(library, "a dog").path == path
    report = library.index(path)
    assert (report.unchanged, report.texts, report.embedded) == (1, 0, 0)


def test_rows_of_a_table_are_texts(library: xsearch.Library, tmp_path: Path) -> None:
    path = write_text(
        tmp_path / "t.csv", 'Image , TEXT,other\n,"one, with\nlines",x\n,two\n,,\n,three,a,b,c\n'
    )
    assert library.index(path).texts == 3
    assert set(texts(library)) == {"one, with\nlines", "two", "three"}
    rows = [{"text": "four"}, {"text": "fünf 🐈", "image": None, "more": [1]}, {"text": " "}]
    path = write_text(tmp_path / "t.jsonl", "\n\n".join(map(json.dumps, rows)))
    assert library.index(path).texts == 2
    assert found(library, "fünf 🐈").path == path


def test_text_files_inside_folders_are_not_picked_up(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    write_text(photos / "README.txt", "not a caption")
    write_text(photos / "t.csv", "text\nnot one either\n")
    report = library.index(photos)
    assert (report.added, report.skipped, report.texts) == (1, 2, 0)
    assert library.index(photos / "README.txt").texts == 1
    # Given by name, it stays, and the folder's scan does not take it out again.
    assert library.index().unchanged == 2
    assert set(texts(library)) == {"not a caption"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "caption\na cat\n", "no column `text`"),
        ("a.csv", "", "no column `text`"),
        ("a.csv", 'text\nfine\n"never closed\n', "line 3"),
        ("a.jsonl", '{"text": "fine"}\n{"text": \n', "line 2"),
        ("a.jsonl", '{"text": "fine"}\n{"caption": "no"}\n', "line 2 has no 'text'"),
        ("a.jsonl", '{"text": "fine"}\n\n["no"]\n', "line 3"),
        ("a.jsonl", '{"text": 7}\n', "line 1"),
        ("a.jsonl", '{"text": "fine"}\n' + "[" * 100_000 + "\n", "line 2"),
        ("a.txt", b"caf\xe9\n", "not UTF-8"),
        ("a.txt", b"\xff\xfea\x00b", "not UTF-8"),
    ],
)
def test_a_broken_text_file_is_a_failure_that_says_where(
    library: xsearch.Library, tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    path = write_text(tmp_path / name, content)
    report = library.index(path)
    assert (report.failed, report.added) == (1, 0)
    assert report.failures[0].path == path
    assert reason in report.failures[0].reason
    assert texts(library) == {}
    again = library.index(path)
    assert (again.failed, again.texts) == (1, 0)
    write_text(path, "text\nrepaired\n" if name.endswith("csv") else '{"text": "repaired"}\n')
    age(path, 60)
    repaired = library.index(path)
    assert (repaired.failed, repaired.texts) == (0, 1)
    assert library.failures() == []


def test_a_text_file_that_breaks_takes_its_texts_out(
    library: xsearch.Library, tmp_path: Path
) -> None:
    path = write_text(tmp_path / "a.jsonl", '{"text": "one"}\n')
    library.index(path)
    write_text(path, '{"text": \n')
    age(path, 60)
    report = library.index()
    assert (report.failed, report.texts_removed) == (1, 1)
    assert texts(library) == {}


def test_a_row_with_half_a_character_is_a_text_like_any_other(
    library: xsearch.Library, tmp_path: Path
) -> None:
    path = write_text(
        tmp_path / "a.jsonl", '{"text": "half \\ud83d here", "image": "\\ud800.jpg"}\n'
    )
    report = library.index(path)
    assert (report.texts, report.failed) == (1, 0)
    (text,) = texts(library)
    assert text.encode()  # it can be shown and sent on
    assert library.index(path).embedded == 0


def test_utf16_with_a_byte_order_mark_and_utf8_with_one_are_read(
    library: xsearch.Library, tmp_path: Path
) -> None:
    one = write_text(tmp_path / "a.txt", "ein Käse\nзима\n".encode("utf-16"))
    two = write_text(tmp_path / "b.csv", "text\nmit Marke\n".encode("utf-8-sig"))
    library.index([one, two])
    assert set(texts(library)) == {"ein Käse", "зима", "mit Marke"}


def test_an_empty_text_file_is_no_failure(library: xsearch.Library, tmp_path: Path) -> None:
    report = library.index(write_text(tmp_path / "a.txt", ""))
    assert (report.added, report.failed, report.texts) == (1, 0, 0)
    assert library.index().unchanged == 1


def test_the_same_text_in_several_places_is_one_item(
    library: xsearch.Library, tmp_path: Path
) -> None:
    one = write_text(tmp_path / "a.txt", "same\nonly here\nsame\n")
    two = write_text(tmp_path / "b.txt", "same\n")
    report = library.index([one, two])
    assert (report.added, report.texts, report.embedded) == (2, 2, 2)
    hit = found(library, "same")
    assert (hit.path, hit.other_paths) == (one, (two,))
    library.remove(one)
    hit = found(library, "same")
    assert (hit.path, hit.other_paths) == (two, ())
    assert set(texts(library)) == {"same"}


def test_an_edited_text_file_replaces_its_rows_and_keeps_the_rest(
    library: xsearch.Library, tmp_path: Path
) -> None:
    path = write_text(tmp_path / "a.txt", "one\ntwo\nthree\n")
    library.index(path)
    before = texts(library)
    write_text(path, "zero\none\nthree\n")
    age(path, 60)
    report = library.index(path)
    assert (report.updated, report.texts, report.texts_removed, report.embedded) == (1, 1, 1, 1)
    after = texts(library)
    assert set(after) == {"zero", "one", "three"}
    assert {after[text].id for text in ("one", "three")} == {
        before[text].id for text in ("one", "three")
    }


def test_a_touched_text_file_is_unchanged(library: xsearch.Library, tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "one\ntwo\n")
    library.index(path)
    age(path, 60)
    report = library.index(path)
    assert (report.unchanged, report.texts, report.embedded) == (1, 0, 0)


def test_a_large_text_file_is_read_in_pieces(library: xsearch.Library, tmp_path: Path) -> None:
    lines = [f"line number {at}" for at in range(5_000)]
    path = write_text(tmp_path / "a.txt", "\n".join(lines))
    report = library.index(path, commit_seconds=0.0)
    assert (report.added, report.texts, report.embedded) == (1, 5_000, 5_000)
    assert set(texts(library)) == set(lines)

    write_text(path, "\n".join(["new", *lines[1:4_100]]))
    age(path, 60)
    report = library.index(path, commit_seconds=0.0)
    assert (report.updated, report.texts, report.embedded) == (1, 1, 1)
    assert report.texts_removed == 901
    assert set(texts(library)) == {"new", *lines[1:4_100]}
    assert library.check().ok


def test_a_large_text_file_that_is_broken_at_its_end_leaves_nothing_behind(
    library: xsearch.Library, tmp_path: Path
) -> None:
    rows = "".join(f'{{"text": "row {at}"}}\n' for at in range(4_500))
    path = write_text(tmp_path / "a.jsonl", rows + "{")
    report = library.index(path, commit_seconds=0.0)
    assert (report.failed, report.added) == (1, 0)
    assert "line 4501" in report.failures[0].reason
    assert texts(library) == {}


def test_a_text_is_found_with_the_file_that_it_stands_in(
    library: xsearch.Library, tmp_path: Path
) -> None:
    path = write_text(tmp_path / "a.txt", "one\n")
    library.index(path)
    path.unlink()
    # Deleted from a folder that is there and not empty: it leaves the results at once.
    write_text(tmp_path / "other.txt", "x")
    assert texts(library) == {}


# Rows that name a picture


@pytest.mark.parametrize("first", ["pictures", "table"])
def test_a_row_is_linked_to_its_picture_whichever_is_indexed_first(
    library: xsearch.Library, tmp_path: Path, first: str
) -> None:
    write_pictures(tmp_path / "photos", 2)
    absolute = json.dumps(str(tmp_path / "photos" / "001.jpg"))
    table = write_text(
        tmp_path / "t.jsonl",
        '{"text": "of zero", "image": "photos/000.jpg"}\n'
        f'{{"text": "of one", "image": {absolute}}}\n'
        '{"text": "of nothing", "image": "photos/nope.jpg"}\n',
    )
    for step in (
        [tmp_path / "photos", table] if first == "pictures" else [table, tmp_path / "photos"]
    ):
        library.index(step)
    assert found(library, "of zero").path == tmp_path / "photos" / "000.jpg"
    assert found(library, "of one").path == tmp_path / "photos" / "001.jpg"
    assert found(library, "of nothing").path == table
    library.remove(tmp_path / "photos")
    assert found(library, "of zero").path == table


def test_a_table_inside_a_root_and_one_picture_given_by_name_are_linked(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "a", 2)
    table = write_text(tmp_path / "a" / "t.csv", "text,image\nzero,./000.jpg\none,../a/001.jpg\n")
    library.index([table, tmp_path / "a" / "000.jpg"])
    assert found(library, "zero").path == tmp_path / "a" / "000.jpg"
    assert found(library, "one").path == table
    library.index(tmp_path / "a")
    assert found(library, "one").path == tmp_path / "a" / "001.jpg"


def test_a_row_follows_its_picture_when_that_is_edited(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 2)
    table = write_text(photos / "t.csv", "text,image\nzero,000.jpg\n")
    library.index([photos, table])
    write_picture(photos / "000.jpg", 50)
    age(photos / "000.jpg", 60)
    library.index()
    assert found(library, "zero").path == photos / "000.jpg"


# Sidecars


def test_sidecars_are_texts_of_their_picture(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    write_text(photos / "000.txt", "first\nsecond\n")
    write_text(photos / "000.jpg.txt", "third\n")
    write_text(photos / "001.JPG.TXT", "wrong case of the name\n")
    write_text(photos / "001.TXT", "upper case suffix\n")
    write_text(photos / "other.txt", "belongs to nothing\n")
    report = library.index(photos)
    assert (report.added, report.texts) == (3, 4)
    assert set(texts(library)) == {"first", "second", "third", "upper case suffix"}
    assert found(library, "second").path == photos / "000.jpg"
    assert found(library, "upper case suffix").path == photos / "001.jpg"
    report = library.index(photos)
    assert (report.unchanged, report.texts, report.embedded) == (3, 0, 0)


def test_an_edited_sidecar_changes_only_its_texts(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 1)
    write_text(photos / "000.txt", "old\nstays\n")
    library.index(photos)
    before = texts(library)["stays"].id
    write_text(photos / "000.txt", "new\nstays\n")
    age(photos / "000.txt", 60)
    report = library.index(photos)
    assert (report.unchanged, report.texts, report.texts_removed) == (1, 1, 1)
    assert (report.decoded, report.embedded) == (0, 1)
    assert set(texts(library)) == {"new", "stays"}
    assert texts(library)["stays"].id == before


def test_a_sidecar_that_comes_later_or_is_removed_is_noticed(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    library.index(photos)
    write_text(photos / "000.txt", "late\n")
    report = library.index(photos)
    assert (report.added, report.unchanged, report.texts, report.decoded) == (0, 1, 1, 0)
    assert found(library, "late").path == photos / "000.jpg"
    (photos / "000.txt").unlink()
    report = library.index(photos)
    assert (report.removed, report.unchanged, report.texts_removed) == (0, 1, 1)
    assert texts(library) == {}


def test_a_sidecar_goes_and_comes_back_with_its_picture(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 2)
    write_text(photos / "001.txt", "of one\n")
    library.index(photos)
    data = (photos / "001.jpg").read_bytes()
    (photos / "001.jpg").unlink()
    report = library.index(photos)
    assert (report.removed, report.texts_removed) == (1, 1)
    assert texts(library) == {}
    (photos / "001.jpg").write_bytes(data)
    age(photos / "001.jpg")
    report = library.index(photos)
    assert (report.added, report.texts, report.embedded) == (1, 1, 0)
    assert found(library, "of one").path == photos / "001.jpg"


def test_a_picture_renamed_with_its_sidecar_keeps_everything(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 2)
    write_text(photos / "001.txt", "of one\n")
    library.index(photos)
    before = found(library, "of one")
    (photos / "001.jpg").rename(photos / "trip.jpg")
    (photos / "001.txt").rename(photos / "trip.txt")
    report = library.index(photos)
    assert (report.moved, report.added, report.removed, report.embedded) == (1, 0, 0, 0)
    after = found(library, "of one")
    assert (after.id, after.path) == (before.id, photos / "trip.jpg")


def test_an_edited_picture_keeps_its_sidecar(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 1)
    write_text(photos / "000.txt", "caption\n")
    library.index(photos)
    write_picture(photos / "000.jpg", 50)
    age(photos / "000.jpg", 60)
    report = library.index(photos)
    assert (report.updated, report.embedded) == (1, 1)
    assert found(library, "caption").path == photos / "000.jpg"


def test_the_sidecar_of_a_damaged_picture_waits_for_its_repair(
    library: xsearch.Library, photos: Path
) -> None:
    write_text(photos / "a.jpg", "this is no picture")
    write_text(photos / "a.txt", "caption\n")
    report = library.index(photos)
    assert (report.failed, report.texts) == (1, 0)
    assert texts(library) == {}
    write_picture(photos / "a.jpg", 1)
    age(photos / "a.jpg", 60)
    report = library.index(photos)
    assert (report.failed, report.texts) == (0, 1)
    assert found(library, "caption").path == photos / "a.jpg"


def test_a_sidecar_that_is_not_utf8_is_a_failure_and_its_picture_is_not(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 1)
    write_text(photos / "000.txt", b"caf\xe9\n")
    report = library.index(photos)
    assert (report.added, report.failed) == (1, 1)
    assert report.failures[0].path == photos / "000.txt"
    assert "not UTF-8" in report.failures[0].reason


def test_two_pictures_of_one_name_share_their_sidecar(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "a.jpg", 1)
    write_picture(photos / "a.png", 2)
    write_text(photos / "a.txt", "of both\n")
    assert library.index(photos).texts == 1
    hit = found(library, "of both")
    assert {hit.path, *hit.other_paths} == {photos / "a.jpg", photos / "a.png"}


# Captions inside pictures


def _with_captions(path: Path, exif_text: str, xmp_text: str) -> Path:
    exif = PILImage.Exif()
    exif[0x010E] = exif_text
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{xmp_text}</rdf:li>'
        "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    picture(1).save(path, exif=exif, xmp=xmp.encode())
    return age(path)


def test_captions_inside_a_picture_become_its_texts(library: xsearch.Library, photos: Path) -> None:
    path = _with_captions(photos / "a.jpg", "Sunset over the harbour", "Boats at rest")
    report = library.index(photos)
    assert (report.added, report.texts, report.embedded) == (1, 2, 3)
    assert found(library, "Sunset over the harbour").path == path
    assert found(library, "Boats at rest").path == path
    assert library.index(photos).unchanged == 1

    write_picture(photos / "other.jpg", 2)
    path.unlink()
    report = library.index(photos)
    assert (report.removed, report.texts_removed) == (1, 2)
    assert texts(library) == {}


def test_captions_change_with_their_picture(library: xsearch.Library, photos: Path) -> None:
    _with_captions(photos / "a.jpg", "Sunset over the harbour", "Boats at rest")
    library.index(photos)
    _with_captions(photos / "a.jpg", "Sunrise over the harbour", "Boats at rest")
    age(photos / "a.jpg", 60)
    report = library.index(photos)
    assert (report.updated, report.texts, report.texts_removed) == (1, 1, 1)
    assert set(texts(library)) == {"Sunrise over the harbour", "Boats at rest"}


def test_texts_and_pictures_are_counted_apart(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    write_text(photos / "000.txt", "one\ntwo\n")
    lines = write_text(photos.parent / "lines.txt", "two\nthree\n")
    report = library.index([photos, lines])
    assert (report.added, report.texts, report.embedded) == (4, 3, 6)
    status = library.status()
    assert dict(status.items) == {"image": 3, "text": 3}
    assert (status.files, status.vectors) == (4, 6)
