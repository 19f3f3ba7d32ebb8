"""VQA v2 as published: questions about COCO's pictures, and ten people's answers to each.

`v2_OpenEnded_mscoco_train2014_questions.json`, and `v2_mscoco_train2014_annotations.json` beside
it, which the test splits lack. Goyal et al. 2017, "Making the V in VQA Matter".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xsearch.data.records import Question

from .coco import places
from .collect import Collector
from .files import Source, files_like, listed, read_json, split_of_year

_QUESTIONS = "_questions.json"


def find(source: Source) -> list[Path]:
    """The files of questions that a folder holds, or the file itself where it is one."""
    if source.is_folder:
        return files_like(source.path, rf".*{_QUESTIONS}", ("", "questions", "annotations"))
    known = isinstance(source.json, dict) and "questions" in source.json
    return [source.path] if known else []


def read(path: Path, out: Collector) -> None:
    """Read a file's questions and their answers; what cannot be used is counted as broken."""
    content = read_json(path)
    year = str(content.get("data_subtype") or "") if isinstance(content, dict) else ""
    year = year or next((part for part in path.name.split("_") if split_of_year(part)), "")
    # The pictures of test-dev2015 are those of test2015.
    folder = year.replace("-dev", "").replace("-std", "")
    answers = _answers(path)
    for number, fields in enumerate(listed(content, "questions", path), 1):
        where = f"{path.name}, question {number}"
        question, image_id = _parsed(fields, answers)
        if question is None:
            out.broken(where, "no `question`, `question_id` or whole `image_id`")
            continue
        name = f"COCO_{folder}_{image_id:012}.jpg"
        image = out.picture(where, *picture_names(folder, image_id))
        if image is not None:
            out.add(where, name, image, questions=[question], split=split_of_year(year))


def picture_names(folder: str, image_id: int) -> tuple[str, ...]:
    """File names of a picture of COCO 2014, in the order they are tried; the last is of 2017."""
    name = f"COCO_{folder}_{image_id:012}.jpg"
    return (*places(name, folder), f"{image_id:012}.jpg")


def _parsed(fields: Any, answers: dict[Any, dict[str, Any]]) -> tuple[Question | None, int]:
    if not isinstance(fields, dict):
        return None, 0
    text, key, image_id = (fields.get(name) for name in ("question", "question_id", "image_id"))
    usable = isinstance(text, str) and text.strip() and isinstance(key, int | str)
    if not usable or not isinstance(image_id, int):
        return None, 0
    given = answers.get(key, {})
    people = given.get("answers")
    people = people if isinstance(people, list) else []
    texts = [each.get("answer") if isinstance(each, dict) else each for each in people]
    kind = given.get("answer_type")
    question = Question(
        str(text).strip(),
        tuple(each for each in texts if isinstance(each, str)),
        str(key),
        kind if isinstance(kind, str) else None,
    )
    return question, image_id


def _answers(questions: Path) -> dict[Any, dict[str, Any]]:
    """The annotations that belong to a file of questions, by question; none where they lack."""
    stem = questions.name.removesuffix(_QUESTIONS)
    names = {f"{stem}_annotations.json", f"{stem.replace('OpenEnded_', '')}_annotations.json"}
    folders = (questions.parent, questions.parent.parent / "annotations")
    for path in (folder / name for folder in folders for name in sorted(names)):
        if path.is_file():
            found = listed(read_json(path), "annotations", path)
            return {each.get("question_id"): each for each in found if isinstance(each, dict)}
    return {}
