"""Data sets in their published forms, whole and damaged, become the same records."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import picture, write_picture, write_text

from xsearch.core.errors import ImageError, SourceError, UsageError
from xsearch.data.readers import FORMATS, read_dataset
from xsearch.data.records import Dataset, ImageFile


def said(dataset: Dataset) -> dict[str, dict[str, list[str]]]:
    return {
        record.key: {code: list(texts) for code, texts in record.captions.items()}
        for record in dataset.records
    }


def splits(dataset: Dataset) -> dict[str, str | None]:
    return {record.key: record.split for record in dataset.records}


def write_json(path: Path, content: Any) -> Path:
    return write_text(path, json.dumps(content))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    return write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def some_pictures(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write_picture(folder / name, seed)
    return folder


# JSON Lines


def test_json_lines_have_captions_by_language_and_splits(tmp_path: Path) -> None:
    some_pictures(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    rows = [
        {"file": "a.jpg", "split": "train", "captions": {"en": ["A dog .", "Dogs ."], "de": ["Ä"]}},
        {"file": "b.jpg", "split": "validation", "captions": {"zh_human_translation": "狗"}},
        {"file": "c.jpg", "split": "test", "label": "dog, red ball"},
    ]
    write_rows(tmp_path / "captions.jsonl", rows)
    found = read_dataset(tmp_path)
    assert found.problems == ()
    assert said(found) == {
        "a.jpg": {"en": ["A dog .", "Dogs ."], "de": ["Ä"]},
        "b.jpg": {"zh_human_translation": ["狗"]},
        "c.jpg": {},
    }
    assert splits(found) == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}
    assert found.records[2].labels == ("dog", "red ball")
    assert found.languages == ("en", "de", "zh_human_translation")
    assert found.splits == ("train", "val", "test")
    assert len(found.only("train")) == 1 and len(found.only("nothing")) == 0
    assert found.name == tmp_path.name
    assert said(read_dataset(tmp_path / "captions.jsonl")) == said(found)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"file_name": "a.jpg", "text": "A dog ."}, {"de": ["A dog ."]}),
        ({"image": "a.jpg", "caption": ["A dog .", "B ."]}, {"de": ["A dog .", "B ."]}),
        ({"path": "a.jpg", "sentences": [{"raw": "A dog ."}]}, {"de": ["A dog ."]}),
        ({"file": "a.jpg", "caption": "x", "language": "fr"}, {"fr": ["x"]}),
        ({"file": "a.jpg", "caption": "x", "caption_cs": "y"}, {"de": ["x"], "cs": ["y"]}),
        ({"file": "a.jpg", "caption": " a\n b\u0000\tc "}, {"de": ["a b c"]}),
        ({"file": "a.jpg", "caption": "half \ud83d."}, {"de": ["half \ufffd."]}),
        ({"file": "a.jpg", "captions": {"en": ["", "x"]}}, {"en": ["x"]}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_fields_are_known_by_their_usual_names(
    tmp_path: Path, fields: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    some_pictures(tmp_path, "a.jpg")
    write_text(tmp_path / "rows.jsonl", json.dumps(fields))
    found = read_dataset(tmp_path / "rows.jsonl", language="de")
    assert list(said(found).values()) == [expected]
    assert found.records[0].texts() == tuple(t for texts in expected.values() for t in texts)
    assert found.records[0].texts(["xx"]) == ()


def test_a_list_of_objects_is_read_as_json_lines_are(tmp_path: Path) -> None:
    some_pictures(tmp_path / "val2014", "a.jpg")
    rows = [{"image": "val2014/a.jpg", "caption": text} for text in ("One .", "Two .")]
    found = read_dataset(write_json(tmp_path / "coco_karpathy_train.json", rows))
    assert said(found) == {"val2014/a.jpg": {"en": ["One .", "Two ."]}}


def test_what_is_wrong_with_a_row_costs_that_row_and_is_said(tmp_path: Path) -> None:
    some_pictures(tmp_path, *(f"{at}.jpg" for at in range(9)))
    good = [json.dumps({"file": f"{at}.jpg", "caption": f"text {at}"}) for at in range(9)]
    bad = [
        '{"file": "0.jpg", "caption"',
        "[" * 100_000,
        '"text"',
        '{"caption": "of nothing"}',
        '{"file": "0.jpg"}',
        '{"file": "0.jpg", "caption": 7}',
        '{"file": "gone.jpg", "caption": "x"}',
    ]
    raw = "\n".join(good + bad).encode() + b'\n\n{"file": "1.jpg", "caption": "caf\xe9"}\n'
    found = read_dataset(write_text(tmp_path / "rows.jsonl", raw))
    assert len(found) == 9
    reasons = [
        "rows.jsonl:10: no valid JSON",
        "rows.jsonl:11: no valid JSON: nested too deeply",
        "rows.jsonl:12: not an object",
        "rows.jsonl:13: no picture named",
        "rows.jsonl:14: neither caption nor label",
        "rows.jsonl:15: a caption must be a text, not a number",
        "rows.jsonl:16: there is no picture gone.jpg",
        "rows.jsonl:18: not UTF-8",
    ]
    assert len(found.problems) == len(reasons)
    for problem, reason in zip(found.problems, reasons, strict=True):
        assert problem.startswith(reason)


def test_more_broken_rows_than_good_ones_are_an_error_that_quotes_the_first(tmp_path: Path) -> None:
    some_pictures(tmp_path, "0.jpg", "1.jpg")
    good = [{"file": f"{at}.jpg", "caption": "x"} for at in range(2)]
    two = write_rows(tmp_path / "two.jsonl", [*good, *({"file": f"x{at}"} for at in range(2))])
    assert len(read_dataset(two)) == 2
    three = write_rows(tmp_path / "three.jsonl", [*good, *({"file": f"x{at}"} for at in range(3))])
    with pytest.raises(SourceError, match=r"three: 3 of 5 rows cannot be used.*three.jsonl:3: nei"):
        read_dataset(three)


def test_missing_pictures_are_an_error_that_says_how_to_name_their_folder(tmp_path: Path) -> None:
    rows = [{"file": f"{at}.jpg", "caption": "x"} for at in range(3)]
    listing = write_rows(tmp_path / "texts" / "captions.jsonl", rows)
    with pytest.raises(SourceError, match=r"there is no picture 0.jpg; .*--images"):
        read_dataset(listing)
    some_pictures(tmp_path / "elsewhere", "0.jpg", "1.jpg", "2.jpg")
    assert len(read_dataset(listing, images=tmp_path / "elsewhere")) == 3


def test_a_repeated_row_counts_once_but_a_sentence_may_come_twice(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg")
    row = {"file": "a.jpg", "captions": ["Same .", "Same ."]}
    found = read_dataset(write_rows(tmp_path / "rows.jsonl", [row, row]))
    assert said(found) == {"a.jpg": {"en": ["Same .", "Same ."]}}
    assert found.problems == ("rows.jsonl:2: the same as an earlier row",)


def test_a_picture_is_in_one_split_only(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg", "b.jpg")
    rows = [
        {"file": "a.jpg", "split": "train", "caption": "x"},
        {"file": "b.jpg", "split": "test", "caption": "y"},
        {"file": "./a.jpg", "split": "test", "caption": "z"},
    ]
    found = read_dataset(write_rows(tmp_path / "rows.jsonl", rows))
    assert splits(found) == {"a.jpg": "train", "b.jpg": "test"}
    assert "in the split train, and cannot be in test" in found.problems[0]


def test_rows_may_name_pictures_anywhere(tmp_path: Path) -> None:
    some_pictures(tmp_path / "other", "a.jpg", "b.jpg")
    rows = [
        {"file": str(tmp_path / "other" / "a.jpg"), "caption": "absolute"},
        {"file": "../other/b.jpg", "caption": "relative"},
        {"file": "\u0000.jpg", "caption": "impossible"},
    ]
    found = read_dataset(write_rows(tmp_path / "data" / "rows.jsonl", rows))
    assert [record.image.path.name for record in found.records] == ["a.jpg", "b.jpg"]
    assert np.asarray(found.records[1].image.open()).shape == (48, 64, 3)


def test_a_name_with_a_folder_is_not_matched_by_its_last_part(tmp_path: Path) -> None:
    some_pictures(tmp_path, "dogs/1.jpg", "deep/er/2.jpg", "x/3.jpg", "y/3.jpg", "4.jpg")
    rows = [{"file": name, "caption": name} for name in ("cats/1.jpg", "2.jpg", "3.jpg", "4.jpg")]
    found = read_dataset(write_rows(tmp_path / "rows.jsonl", rows))
    assert list(said(found)) == ["2.jpg", "4.jpg"]
    assert found.records[0].image.path == tmp_path / "deep" / "er" / "2.jpg"
    assert "no picture cats/1.jpg" in found.problems[0]
    assert "several pictures are named 3.jpg" in found.problems[1]


def test_utf_16_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg")
    row = json.dumps({"file": "a.jpg", "caption": "Hündin"}, ensure_ascii=False)
    for name, encoding in (("a", "utf-16"), ("b", "utf-8-sig")):
        path = write_text(tmp_path / f"{name}.jsonl", (row + "\n").encode(encoding))
        assert said(read_dataset(path)) == {"a.jpg": {"en": ["Hündin"]}}
        table = "file,caption\na.jpg,Hündin\n".encode(encoding)
        path = write_text(tmp_path / f"{name}.csv", table)
        assert said(read_dataset(path)) == {"a.jpg": {"en": ["Hündin"]}}


def test_files_called_as_splits_hold_them(tmp_path: Path) -> None:
    some_pictures(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        rows = [{"image": f"{name}.jpg", "text": "x"}]
        write_rows(tmp_path / f"{split}.jsonl", rows)
    expected = {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}
    assert splits(read_dataset(tmp_path)) == expected


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_hugging_face_image_folders(tmp_path: Path, suffix: str) -> None:
    for folder, split in (("train", "train"), ("validation", "val")):
        some_pictures(tmp_path / folder, "1.jpg")
        row = {"file_name": "1.jpg", "text": f"of {split}"}
        if suffix == "jsonl":
            write_rows(tmp_path / folder / "metadata.jsonl", [row])
        else:
            write_text(tmp_path / folder / "metadata.csv", f"file_name,text\n1.jpg,of {split}\n")
    found = read_dataset(tmp_path)
    assert splits(found) == {"train/1.jpg": "train", "validation/1.jpg": "val"}
    assert [record.texts() for record in found.records] == [("of train",), ("of val",)]
    assert [record.image.path.parent.name for record in found.records] == ["train", "validation"]
    alone = read_dataset(tmp_path / "train" / f"metadata.{suffix}")
    assert alone.records[0].image.path == tmp_path / "train" / "1.jpg"


# CSV


def test_kaggles_flickr8k(tmp_path: Path) -> None:
    some_pictures(tmp_path / "Images", "1.jpg", "2.jpg")
    text = 'image,caption\n1.jpg,A dog .\n1.jpg,"A ""big"" dog , running ."\n2.jpg,A cat .\n'
    write_text(tmp_path / "captions.txt", text)
    assert said(read_dataset(tmp_path)) == {
        "1.jpg": {"en": ["A dog .", 'A "big" dog , running .']},
        "2.jpg": {"en": ["A cat ."]},
    }


def test_kaggles_flickr30k_with_its_broken_row(tmp_path: Path) -> None:
    some_pictures(tmp_path / "flickr30k_images", "1.jpg", "2.jpg")
    rows = [
        "image_name| comment_number| comment",
        '1.jpg| 0| "Two dogs" says a sign .',
        "1.jpg| 1| Two dogs .",
        "2.jpg| 4   A dog runs across the grass .",
        "2.jpg| 0| A cat .",
    ]
    write_text(tmp_path / "flickr30k_images" / "results.csv", "\n".join(rows))
    found = read_dataset(tmp_path / "flickr30k_images")
    assert said(found) == {
        "1.jpg": {"en": ['"Two dogs" says a sign .', "Two dogs ."]},
        "2.jpg": {"en": ["A cat ."]},
    }
    assert found.problems == ("results.csv:4: 2 values for 3 columns",)


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_tables_with_labels_splits_and_languages(tmp_path: Path, delimiter: str) -> None:
    some_pictures(tmp_path, "a.jpg", "b.jpg")
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["File", "split", "caption_de", "Label"])
        writer.writerow(["a.jpg", "dev", "Ein Hund, rot;\nschnell", "dog"])
        writer.writerow(["b.jpg", "test", "", "cat"])
    found = read_dataset(tmp_path / "rows.csv")
    assert said(found) == {"a.jpg": {"de": ["Ein Hund, rot; schnell"]}, "b.jpg": {}}
    assert splits(found) == {"a.jpg": "val", "b.jpg": "test"}
    assert [record.labels for record in found.records] == [("dog",), ("cat",)]


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest_in_silence(tmp_path: Path) -> None:
    some_pictures(tmp_path, *(f"{at}.jpg" for at in range(10)))
    rows = [f"{at}.jpg,text {at}" for at in range(10)]
    rows[7] = '7.jpg,"text'
    found = read_dataset(write_text(tmp_path / "a.csv", "\n".join(["file,caption", *rows])))
    assert len(found) == 7
    assert found.problems[0].startswith("a.csv:9: no valid CSV up to line 11")
    rows[2] = '2.jpg,"text'
    rows[7] = "7.jpg,text 7"
    path = write_text(tmp_path / "b.csv", "\n".join(["file,caption", *rows]))
    with pytest.raises(SourceError, match="8 of 10 rows cannot be used"):
        read_dataset(path)


def test_a_row_that_is_not_utf_8_costs_itself(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg", "b.jpg")
    raw = b"file,caption\na.jpg,caf\xe9\nb.jpg,fine\n"
    found = read_dataset(write_text(tmp_path / "rows.csv", raw))
    assert said(found) == {"b.jpg": {"en": ["fine"]}}
    assert found.problems == ("rows.csv:2: not UTF-8",)


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg")
    for text in ("a.jpg,A dog .\n", "file,size\na.jpg,3\n", ""):
        with pytest.raises(SourceError, match="the first row must name the columns"):
            read_dataset(write_text(tmp_path / "rows.csv", text))


# Folders


def test_texts_beside_pictures(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg", "b.png", "b.jpg", "train/c.jpg", ".hidden/d.jpg", "e.de.jpg")
    write_text(tmp_path / "a.txt", "A dog .\r\n\r\nDogs .\n")
    write_text(tmp_path / "a.de.txt", "Ein Hund .")
    write_text(tmp_path / "b.txt", "Both .")
    write_text(tmp_path / "b.jpg.txt", "This one .")
    write_text(tmp_path / "train" / "c.json", '{"caption": "By img2dataset .", "url": "x"}')
    write_text(tmp_path / "train" / "c.txt", "By img2dataset .")
    write_text(tmp_path / "e.de.txt", "English .")
    write_text(tmp_path / "README.txt", "Nothing .")
    found = read_dataset(tmp_path)
    assert said(found) == {
        "a.jpg": {"de": ["Ein Hund ."], "en": ["A dog .", "Dogs ."]},
        "b.jpg": {"en": ["This one .", "Both ."]},
        "b.png": {"en": ["Both ."]},
        "e.de.jpg": {"en": ["English ."]},
        "train/c.jpg": {"en": ["By img2dataset ."]},
    }
    assert splits(found)["train/c.jpg"] == "train" and splits(found)["a.jpg"] is None
    assert found.problems == ()


def test_a_broken_text_beside_a_picture_costs_that_picture(tmp_path: Path) -> None:
    some_pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    write_text(tmp_path / "b.txt", b"caf\xe9")
    write_text(tmp_path / "c.json", "{")
    write_text(tmp_path / "d.json", '{"width": 3}')
    found = read_dataset(tmp_path)
    assert said(found) == {"a.jpg": {}, "d.jpg": {}}
    assert "b.txt beside it is not UTF-8" in found.problems[0]
    assert "c.json is no valid JSON" in found.problems[1]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    some_pictures(tmp_path, "train/polar_bear/1.jpg", "train/dog/x/1.jpg", "val/dog/2.jpg")
    found = read_dataset(tmp_path)
    assert {record.key: (record.labels, record.split) for record in found.records} == {
        "train/dog/x/1.jpg": (("dog",), "train"),
        "train/polar_bear/1.jpg": (("polar bear",), "train"),
        "val/dog/2.jpg": (("dog",), "val"),
    }
    assert read_dataset(tmp_path, format="folder").records[0].labels == ()
    one = read_dataset(tmp_path / "val", format="labels")
    assert one.records[0].labels == ("dog",)


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        write_picture(tmp_path / name, 1)
    except (OSError, UnicodeError):
        pytest.skip("this file system has only names in Unicode")
    write_text(tmp_path / os.fsdecode(b"caf\xe9.txt"), "Coffee .")
    found = read_dataset(tmp_path)
    assert found.records[0].texts() == ("Coffee .",)
    assert found.records[0].image.open().size == (64, 48)


# Flickr8k and Flickr30k


@pytest.mark.parametrize("inner", ["", "Flickr8k_text"])
def test_flickr8k_as_published(tmp_path: Path, inner: str) -> None:
    some_pictures(tmp_path / "Flicker8k_Dataset", "1_a.jpg", "2_b.jpg", "3_c.jpg", "4_d.jpg")
    folder = tmp_path / inner
    tokens = [
        "1_a.jpg#0\tA child in a pink dress .",
        "1_a.jpg#1\tA child in a pink dress .",
        "2_b.jpg#0\tA black dog .",
        "3_c.jpg#0\tA man .",
        "4_d.jpg#0\tIn no list .",
        "2258277193_586949ec62.jpg.1#0\tIts picture was never there .",
        "no number\tbroken",
        "2_b.jpg#0\tTwice .",
    ]
    write_text(folder / "Flickr8k.token.txt", "\n".join(tokens) + "\n")
    write_text(folder / "Flickr8k.lemma.token.txt", "1_a.jpg#0\ta child in a pink dress .\n")
    write_text(folder / "CrowdFlowerAnnotations.txt", "1_a.jpg\t2_b.jpg#2\t0.0\t0\t3\n")
    for name, image in (("train", "1_a.jpg"), ("dev", "2_b.jpg"), ("test", "3_c.jpg")):
        write_text(folder / f"Flickr_8k.{name}Images.txt", f"{image}\n")
    found = read_dataset(tmp_path)
    assert said(found) == {
        "1_a.jpg": {"en": ["A child in a pink dress ."] * 2},
        "2_b.jpg": {"en": ["A black dog ."]},
        "3_c.jpg": {"en": ["A man ."]},
        "4_d.jpg": {"en": ["In no list ."]},
    }
    assert splits(found) == {
        "1_a.jpg": "train",
        "2_b.jpg": "val",
        "3_c.jpg": "test",
        "4_d.jpg": None,
    }
    assert [problem.split(": ")[0] for problem in found.problems] == [
        f"Flickr8k.token.txt:{number}" for number in (6, 7, 8)
    ]
    alone = read_dataset(folder / "Flickr8k.token.txt", images=tmp_path / "Flicker8k_Dataset")
    assert said(alone) == said(found)


def test_flickr30k_as_published(tmp_path: Path) -> None:
    some_pictures(tmp_path / "flickr30k-images", "1.jpg", "2.jpg")
    tokens = "1.jpg#0\tTwo men .\n2.jpg#0\tA boy .\n"
    write_text(tmp_path / "results_20130124.token", tokens)
    write_text(tmp_path / "train.txt", "1\n")
    write_text(tmp_path / "test.txt", "2\n")
    write_text(tmp_path / "README.txt", "Flickr30k\n")
    found = read_dataset(tmp_path, language="de")
    assert said(found) == {"1.jpg": {"de": ["Two men ."]}, "2.jpg": {"de": ["A boy ."]}}
    assert splits(found) == {"1.jpg": "train", "2.jpg": "test"}


# Karpathy and COCO


def test_karpathys_splits(tmp_path: Path) -> None:
    some_pictures(tmp_path, "val2014/COCO_val2014_1.jpg", "images/2.jpg", "4.jpg")
    images = [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_1.jpg",
            "split": "restval",
            "sentences": [{"raw": "A dog.", "tokens": ["a", "dog"]}, {"raw": "Dogs."}],
        },
        {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "A cat."}]},
        {"filename": "3.jpg", "split": "test", "sentences": [{"raw": "Gone."}]},
        {"filename": "4.jpg", "split": "val", "sentences": []},
    ]
    write_json(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    found = read_dataset(tmp_path)
    assert said(found) == {
        "val2014/COCO_val2014_1.jpg": {"en": ["A dog.", "Dogs."]},
        "2.jpg": {"en": ["A cat."]},
    }
    assert list(splits(found).values()) == ["restval", "test"]
    assert [problem.split(": ")[1] for problem in found.problems] == [
        "there is no picture 3.jpg",
        "no sentence",
    ]
    assert said(read_dataset(tmp_path / "dataset_coco.json")) == said(found)


def write_coco(folder: Path, split: str, texts: Mapping[int, list[str]]) -> Path:
    content = {
        "info": {},
        "images": [{"id": at, "file_name": f"{at:012}.jpg", "height": 48} for at in texts],
        "annotations": [
            {"image_id": at, "id": 7, "caption": text} for at in texts for text in texts[at]
        ],
    }
    return write_json(folder / f"captions_{split}2017.json", content)


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "images"])
def test_coco_captions_as_published(tmp_path: Path, place: str) -> None:
    some_pictures(tmp_path / place, f"{9:012}.jpg")
    some_pictures(tmp_path / "val2017", f"{25:012}.jpg")
    train = write_coco(tmp_path / "annotations", "train", {9: ["A bear.", "A big\nbear. "]})
    write_coco(tmp_path / "annotations", "val", {25: ["A giraffe."], 26: []})
    write_json(tmp_path / "annotations" / "instances_train2017.json", {"annotations": []})
    found = read_dataset(tmp_path)
    assert said(found) == {
        f"{9:012}.jpg": {"en": ["A bear.", "A big bear."]},
        f"{25:012}.jpg": {"en": ["A giraffe."]},
    }
    assert list(splits(found).values()) == ["train", "val"]
    assert found.problems == (f"captions_val2017.json, picture {26:012}.jpg: it has no caption",)
    assert splits(read_dataset(train)) == {f"{9:012}.jpg": "train"}


def test_a_broken_annotation_costs_itself(tmp_path: Path) -> None:
    some_pictures(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    content = {
        "images": [{"id": at, "file_name": f"{at}.jpg"} for at in (1, 2, 3)] + [{"id": 4}],
        "annotations": [
            *({"image_id": at, "caption": f"text {at}"} for at in (1, 2, 3)),
            {"image_id": 99, "caption": "of nothing"},
            {"image_id": 1},
        ],
    }
    found = read_dataset(write_json(tmp_path / "mine.json", content))
    assert [record.texts() for record in found.records] == [(f"text {at}",) for at in (1, 2, 3)]
    assert [problem.split(": ")[0] for problem in found.problems] == [
        "mine.json, image 4",
        "mine.json, annotation 4",
        "mine.json, annotation 5",
    ]


# Questions


@pytest.mark.parametrize("inner", ["", "questions"])
def test_vqa_v2_as_published(tmp_path: Path, inner: str) -> None:
    some_pictures(tmp_path / "train2014", "COCO_train2014_000000000009.jpg")
    some_pictures(tmp_path / "test2015", "COCO_test2015_000000000001.jpg")
    asked = [
        {"image_id": 9, "question": "What is this?", "question_id": 9000},
        {"image_id": 9, "question": "How many?", "question_id": 9001},
        {"image_id": 10, "question": "Where?", "question_id": 10000},
    ]
    answered = [
        {
            "question_id": 9000,
            "image_id": 9,
            "question_type": "what is",
            "answer_type": "other",
            "multiple_choice_answer": "food",
            "answers": [
                {"answer": "food", "answer_confidence": "yes", "answer_id": 1},
                {"answer": "lunch", "answer_confidence": "maybe", "answer_id": 2},
            ],
        }
    ]
    name = "v2_OpenEnded_mscoco_{}_questions.json"
    train = write_json(
        tmp_path / inner / name.format("train2014"),
        {"questions": asked, "data_subtype": "train2014"},
    )
    write_json(
        tmp_path / ("annotations" if inner else "") / "v2_mscoco_train2014_annotations.json",
        {"annotations": answered},
    )
    withheld = [{"image_id": 1, "question": "Who?", "question_id": 1000}]
    write_json(
        tmp_path / inner / name.format("test-dev2015"),
        {"questions": withheld, "data_subtype": "test-dev2015"},
    )
    found = read_dataset(tmp_path)
    by_split = {record.split: record for record in found.records}
    first, second = by_split["train"].questions
    assert (first.text, first.answers, first.kind) == ("What is this?", ("food", "lunch"), "other")
    assert (second.text, second.answers, second.key) == ("How many?", (), "9001")
    assert by_split["test"].questions[0].text == "Who?"
    assert "COCO_train2014_000000000010.jpg" in found.problems[0]
    assert len(read_dataset(train)) == 1


def test_coco_qa_as_published(tmp_path: Path) -> None:
    some_pictures(tmp_path / "train2014", "COCO_train2014_000000000009.jpg")
    some_pictures(tmp_path / "val2014", "COCO_val2014_000000000025.jpg")
    for split, image in (("train", 9), ("test", 25)):
        write_text(tmp_path / split / "questions.txt", "what is there\nwhat colour is it\n")
        write_text(tmp_path / split / "answers.txt", "food\nred\n")
        write_text(tmp_path / split / "img_ids.txt", f"{image}\n{image}\n")
        write_text(tmp_path / split / "types.txt", "0\n2\n")
    found = read_dataset(tmp_path)
    assert [record.split for record in found.records] == ["train", "test"]
    questions = found.records[1].questions
    assert [(each.text, each.answers, each.kind) for each in questions] == [
        ("what is there", ("food",), "object"),
        ("what colour is it", ("red",), "colour"),
    ]
    write_text(tmp_path / "test" / "answers.txt", "food\n")
    with pytest.raises(SourceError, match="2 questions, 1 answers and 2 ids"):
        read_dataset(tmp_path)


# WebDataset


def encoded(seed: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, form)
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    return [
        member
        for at in range(first, first + count)
        for member in ((f"{at:03}.jpg", encoded(at)), (f"{at:03}.txt", f"text {at}".encode()))
    ]


def test_pictures_are_read_out_of_the_middle_of_a_shard(tmp_path: Path) -> None:
    found = read_dataset(write_tar(tmp_path / "0.tar", samples(3)))
    assert [record.texts() for record in found.records] == [(f"text {at}",) for at in range(3)]
    for at, record in enumerate(found.records):
        assert record.image.read() == encoded(at)
        assert record.image.open().size == (64, 48)
        assert record.image.name == f"0.tar/{at:03}.jpg"


def test_texts_objects_classes_and_other_pictures_of_a_sample(tmp_path: Path) -> None:
    write_text(tmp_path / "classnames.txt", "tench\ngoldfish\n")
    members = [
        ("./a.depth.png", encoded(9, "PNG")),
        ("./a.JPG", encoded(1)),
        ("./a.txt", b"One .\nTwo ."),
        ("./a.de.txt", b"Zwei Fische ."),
        ("./a.json", json.dumps({"caption": "One .", "caption_fr": "Un .", "url": "x"}).encode()),
        ("./a.cls", b"1"),
        ("dir.v1/b.webp", encoded(2, "WEBP")),
        ("dir.v1/b.cls", b"shark"),
        ("dir.v1/b.json", b"[1, 2]"),
    ]
    write_tar(tmp_path / "train-000.tar", members)
    write_tar(tmp_path / "val" / "000.tar", samples(1, first=5))
    found = read_dataset(tmp_path)
    assert found.problems == ()
    first, second, third = found.records
    assert first.captions == {
        "en": ("One .", "Two ."),
        "de": ("Zwei Fische .",),
        "fr": ("Un .",),
    }
    assert first.labels == ("goldfish",) and second.labels == ("shark",)
    assert first.image.read() == encoded(1)
    assert [first.split, second.split, third.split] == ["train", "train", "val"]


def test_a_sample_without_picture_or_with_a_broken_text_costs_itself(tmp_path: Path) -> None:
    members = [
        *samples(4),
        ("x.txt", b"no picture"),
        ("y.jpg", encoded(1)),
        ("y.txt", b"caf\xe9"),
        ("z.jpg", encoded(2)),
        ("z.json", b"{"),
        ("000.jpg", encoded(7)),
    ]
    found = read_dataset(write_tar(tmp_path / "0.tar", members))
    assert len(found) == 4
    assert found.records[0].image.read() == encoded(0)
    joined = "\n".join(found.problems)
    assert len(found.problems) == 4
    for reason in (
        "0.tar, x: no picture in this sample",
        "0.tar, y: its .txt is broken",
        "0.tar, z: its .json is broken",
        "0.tar, 000.jpg: it is there twice",
    ):
        assert reason in joined


@pytest.mark.parametrize("place", ["picture", "header", "mark"])
def test_a_shard_that_is_cut_short_keeps_what_is_whole(tmp_path: Path, place: str) -> None:
    path = write_tar(tmp_path / "0.tar", samples(4))
    with tarfile.open(path) as tar:
        last = tar.getmember("003.jpg")
        text = tar.getmember("003.txt")
    cut = {
        "picture": last.offset_data + 100,
        "header": last.offset + 100,
        "mark": text.offset_data + 512,
    }
    os.truncate(path, cut[place])
    found = read_dataset(path)
    whole = 4 if place == "mark" else 3
    assert [record.texts() for record in found.records] == [(f"text {at}",) for at in range(whole)]
    assert len(found.problems) == 1 and "cut short" in found.problems[0]
    for at, record in enumerate(found.records):
        assert record.image.read() == encoded(at)


def test_a_damaged_header_is_not_taken_for_the_end_in_silence(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", samples(4))
    with tarfile.open(path) as tar:
        at = tar.getmember("002.jpg").offset
    raw = bytearray(path.read_bytes())
    raw[at + 10 : at + 300] = b"\xff" * 290
    path.write_bytes(raw)
    found = read_dataset(path)
    assert len(found) == 2
    assert f"damaged at byte {at:,}" in found.problems[0]


def test_names_in_a_shard_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    members = [("../../outside.jpg", encoded(3)), (f"{tmp_path}/outside.txt", b"x")]
    path = tmp_path / "in" / "0.tar"
    write_tar(path, [*members, *samples(2)])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = read_dataset(path)
    assert not outside.exists()
    assert all(record.image.path == path for record in found.records)
    assert [record.texts() for record in found.records] == [(), ("text 0",), ("text 1",)]


def test_a_compressed_shard_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", samples(1))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    for source in (tmp_path / "a", tmp_path / "a" / "0.tar.gz"):
        with pytest.raises(SourceError, match="compressed"):
            read_dataset(source)
    write_text(tmp_path / "no.tar", b"")
    with pytest.raises(SourceError, match=r"no pictures in it \(no.tar: it is damaged"):
        read_dataset(tmp_path / "no.tar")


# All of them


def test_a_picture_cut_short_in_its_file_is_unreadable(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.jpg", 1)
    size = path.stat().st_size
    assert ImageFile(path).name == "a.jpg"
    assert ImageFile(path, 0, size).open(8).size >= (8, 8)
    for image in (ImageFile(path, 0, size + 1), ImageFile(tmp_path / "gone.jpg")):
        for use in (image.read, image.open):
            with pytest.raises(ImageError) as caught:
                use()
            assert caught.value.code == "unreadable"


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_folder_or_file_is_an_error_in_every_format(tmp_path: Path, format: str) -> None:
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "file.json", b"")
    write_text(tmp_path / "nul.json", b"\0\xff" * 1000)
    for name in ("folder", "file.json", "nul.json"):
        with pytest.raises(SourceError):
            read_dataset(tmp_path / name, format=format)


@pytest.mark.parametrize("content", ["{}", "[]", "3", "[3]", '{"images": 3}', '{"images": [3]}'])
@pytest.mark.parametrize("format", [None, "jsonl", "karpathy", "coco", "vqa"])
def test_json_of_another_form_is_an_error(tmp_path: Path, content: str, format: str | None) -> None:
    with pytest.raises(SourceError):
        read_dataset(write_text(tmp_path / "x.json", content), format=format)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no such folder of pictures"):
        read_dataset(tmp_path, images=tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no format 'parquet'.*there are jsonl, csv"):
        read_dataset(tmp_path, format="parquet")
    with pytest.raises(SourceError, match="no data set of the format coco"):
        read_dataset(tmp_path, format="coco")
    with pytest.raises(SourceError, match="no data set of a known format"):
        read_dataset(write_text(tmp_path / "notes.txt", "Just words.\n"))


def test_the_shared_data_is_read_without_problems(shared_data: Path) -> None:
    flickr = read_dataset(shared_data / "flickr8k")
    counts = {split: len(flickr.only(split)) for split in flickr.splits}
    assert counts == {"train": 6000, "val": 1000, "test": 1000}
    assert sum(len(record.captions["en"]) for record in flickr.only("test").records) == 5000
    assert {"zh_human_translation", "de", "fr", "cs", "ar"} < set(flickr.languages)
    other = read_dataset(shared_data / "other_val")
    photos = read_dataset(shared_data / "photos")
    assert (len(other), len(photos)) == (152, 125)
    assert sum(bool(record.texts()) for record in photos.records) == 25
    varied = [read_dataset(folder) for folder in sorted((shared_data / "varied").iterdir())]
    assert sum(map(len, varied)) == 2004
    assert all(record.labels for dataset in varied for record in dataset.records)
    assert not any(dataset.problems for dataset in (flickr, other, photos, *varied))
    assert other.records[0].image.open(100).mode == "RGB"
