"""What a run learns from and is measured on: data sets read, joined, split and kept apart."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import SourceError
from xsearch.core.paths import displayable
from xsearch.data.leaks import without_leaks
from xsearch.data.readers import read_dataset
from xsearch.data.records import Dataset, ImageFile, Record

if TYPE_CHECKING:
    from xsearch.core.reports import ProgressCallback

    from .config import DataConfig

FEWEST = 10
"""Fewer pictures are not worth measuring on; without a split they all are learnt from."""


@dataclass(frozen=True, slots=True)
class Material:
    """`train` and `validation` records, each with at least one caption; none in both.

    `owners` numbers what each training record is said to show: pictures with equal captions, such
    as those that are known only by their class, are no negatives of one another. `problems` are
    lines for people.
    `leaks` is how many pictures were left out, being in what is held out.
    """

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    owners: tuple[int, ...]
    problems: tuple[str, ...]
    leaks: int


def gather(config: DataConfig, progress: ProgressCallback | None = None) -> Material:
    """Read all that the settings name; `progress` follows the comparison of pictures.

    Raises SourceError where there is nothing, or too little, to learn from, or where pictures
    are in what is held out and the settings say `refuse`; LibraryError and such for a library.
    """
    if not config.train and config.library is None:
        raise SourceError("nothing to learn from: name a data set with --data, or use --library")
    sets = [_read(source, config) for source in config.train]
    if config.library is not None:
        sets.append(library_captions(Path(config.library), config.language))
    problems = [problem for found in sets for problem in found.problems]
    train, validation, test = _split(sets, config, problems)
    if config.validation is not None:
        validation = _of(read_dataset(config.validation, language=config.language), problems)
        validation = _chosen_split(validation, config)
    if not len(validation):
        train, validation = _share(train, config)
    train, leaks = _apart(train, validation, test, config, progress)
    validation = replace(validation, records=validation.records[: config.validation_limit])
    learnt = _captioned(train.records, config, problems)
    if len(learnt) < 2:
        raise SourceError(
            f"{_names(sets)}: {len(learnt)} picture{'' if len(learnt) == 1 else 's'} with captions "
            "to learn from, and at least 2 are needed: a pair is learnt by telling it from others"
        )
    measured = _captioned(validation.records, config, [])
    return Material(learnt, measured, _owners(learnt), tuple(problems), leaks)


def library_captions(folder: Path, language: str) -> Dataset:
    """The captioned pictures of a library as a data set; the library is only read."""
    import xsearch

    with xsearch.open(folder, create=False) as library:
        found = library.captions()
    if not found:
        raise SourceError(
            f"{folder}: no picture in this library has a caption. Put texts beside pictures "
            "(photo.txt), or rows in a CSV file with `text` and `image`, and run xsearch index"
        )
    records = tuple(
        Record(key=str(each.path), image=ImageFile(each.path), captions={language: each.texts})
        for each in found
    )
    return Dataset(folder.name, records, ())


def _read(source: str, config: DataConfig) -> Dataset:
    images = Path(config.images) if config.images is not None else None
    return read_dataset(source, format=config.format, images=images, language=config.language)


def _of(dataset: Dataset, problems: list[str]) -> Dataset:
    problems += dataset.problems
    return dataset


def _split(
    sets: Sequence[Dataset], config: DataConfig, problems: list[str]
) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test records of all sets together; keys made unique."""
    parts: tuple[list[Record], list[Record], list[Record]] = ([], [], [])
    ignored: dict[str, int] = {}
    for number, dataset in enumerate(sets):
        for record in dataset.records:
            kept = replace(record, key=f"{number}/{record.key}") if len(sets) > 1 else record
            if record.split is None or record.split in config.train_splits:
                parts[0].append(kept)
            elif record.split == config.validation_split:
                parts[1].append(kept)
            elif record.split == config.test_split:
                parts[2].append(kept)
            else:
                ignored[record.split] = ignored.get(record.split, 0) + 1
    problems += [
        f"{count} pictures of the split {split!r} are not used (data.train_splits)"
        for split, count in ignored.items()
    ]
    if not parts[0]:
        splits = sorted({str(record.split) for each in sets for record in each.records})
        raise SourceError(
            f"{_names(sets)}: no picture of the split {' or '.join(config.train_splits)}; there "
            f"are {', '.join(splits)}. Say which with --set data.train_splits=NAME"
        )
    train, validation, test = (Dataset(_names(sets), tuple(part), ()) for part in parts)
    return train, validation, test


def _chosen_split(dataset: Dataset, config: DataConfig) -> Dataset:
    """The validation split of a data set that has one, else all of it."""
    has = any(record.split == config.validation_split for record in dataset.records)
    return dataset.only(config.validation_split) if has else dataset


def _apart(
    train: Dataset,
    validation: Dataset,
    test: Dataset,
    config: DataConfig,
    progress: ProgressCallback | None,
) -> tuple[Dataset, int]:
    """The training pictures that are in nothing that is held out, and how many were."""
    if config.leaks == "keep":
        return train, 0
    held_out = [each for each in (validation, test) if len(each)]
    held_out += [read_dataset(each) for each in config.held_out]
    if not held_out:
        return train, 0
    kept, leaks = without_leaks(train, *held_out, distance=config.leak_distance, progress=progress)
    if leaks and config.leaks == "refuse":
        raise SourceError(
            f"{len(leaks)} pictures to be learnt from are in what is held out, such as "
            f"{leaks[0]}; --set data.leaks=drop leaves them out"
        )
    return kept, len(leaks)


def _share(train: Dataset, config: DataConfig) -> tuple[Dataset, Dataset]:
    """Set a share of the pictures aside, the same ones in every run; none of very few."""
    nothing = replace(train, records=())
    count = min(round(len(train) * config.validation_share), config.validation_limit)
    if len(train) < FEWEST or count < 2:
        return train, nothing
    drawn = sorted(train.records, key=lambda each: (_hash(each.key), each.key))
    aside = {record.key for record in drawn[:count]}
    return (
        replace(train, records=tuple(each for each in train.records if each.key not in aside)),
        replace(train, records=tuple(each for each in train.records if each.key in aside)),
    )


def _hash(key: str) -> int:
    return zlib.crc32(key.encode("utf-8", "surrogatepass"))


def _captioned(
    records: Sequence[Record], config: DataConfig, problems: list[str]
) -> tuple[Record, ...]:
    """Records with captions in the wanted languages; class names become captions."""
    found = []
    for record in records:
        captions = {
            language: texts
            for language, texts in record.captions.items()
            if texts and (not config.languages or language in config.languages)
        }
        if not captions and not record.captions and record.labels:
            prompts = tuple(config.class_prompt.format(label) for label in record.labels)
            captions = {config.language: prompts}
        if captions:
            found.append(replace(record, captions=captions))
    if len(found) < len(records):
        missing = len(records) - len(found)
        problems.append(f"{missing} pictures have no caption that can be learnt from")
    return tuple(found)


def _owners(records: Sequence[Record]) -> tuple[int, ...]:
    """A number for each record, the same for those that are described in the same words."""
    numbers: dict[object, int] = {}
    return tuple(
        numbers.setdefault(tuple(sorted(record.captions.items())), len(numbers))
        for record in records
    )


def _names(sets: Sequence[Dataset]) -> str:
    return " and ".join(displayable(each.name) for each in sets)
