"""COCO-QA as published: `train/` and `test/` with `questions.txt`, `answers.txt`, `img_ids.txt`.

Line n of each is about the same question; `types.txt`: 0 object, 1 number, 2 colour, 3 location.
Pictures are COCO's of 2014. Ren, Kiros, Zemel 2015, "Exploring Models and Data for Image Question
Answering".
"""

from __future__ import annotations

from pathlib import Path

from xsearch.core.errors import SourceError
from xsearch.core.paths import displayable
from xsearch.data.records import Question

from .collect import Collector
from .files import Source, lines, split_named
from .vqa import picture_names

_FILES = ("questions.txt", "answers.txt", "img_ids.txt")
_KINDS = {"0": "object", "1": "number", "2": "colour", "3": "location"}
_FOLDERS = ("train2014", "val2014")


def find(source: Source) -> list[Path]:
    """The folders of this form: the source itself, or those of its splits."""
    return [
        folder
        for folder in (source.path, *(source.path / name for name in ("train", "val", "test")))
        if all((folder / name).is_file() for name in _FILES)
    ]


def read(path: Path, out: Collector) -> None:
    """Read a folder's questions. Raises SourceError where its files differ in length."""
    questions, answers, images = (_column(path / name) for name in _FILES)
    kinds = _column(path / "types.txt") if (path / "types.txt").is_file() else []
    if not len(questions) == len(answers) == len(images):
        raise SourceError(
            f"{displayable(path)}: {len(questions)} questions, {len(answers)} answers and "
            f"{len(images)} ids of pictures, which must be as many"
        )
    for at, (text, answer, image_id) in enumerate(zip(questions, answers, images, strict=True)):
        where = f"{path.name}/questions.txt:{at + 1}"
        if text is None or answer is None or image_id is None or not image_id.isdecimal():
            out.broken(where, "not UTF-8, or its picture's id is no number")
            continue
        names = [name for year in _FOLDERS for name in picture_names(year, int(image_id))]
        image = out.picture(where, *names)
        if image is not None:
            kind = _KINDS.get(kinds[at] or "") if at < len(kinds) else None
            question = Question(text, (answer,), f"{path.name}/{at}", kind)
            split = split_named(path.name)
            out.add(where, image.name, image, questions=[question], split=split)


def _column(path: Path) -> list[str | None]:
    return [line.strip() if line is not None else None for _, line in lines(path)]
