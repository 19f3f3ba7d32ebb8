"""What a reranker learns from, as numbers: regions, tokens, groups' neighbours, made-up scenes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import ImageError, SourceError, TrainingError
from xsearch.core.hashing import hash_text
from xsearch.core.ordered import map_in_order
from xsearch.core.paths import displayable
from xsearch.core.reports import Progress
from xsearch.data.augment import ImageAugmentation, mentions_side
from xsearch.data.corruptions import corruptions
from xsearch.data.scenes import scene
from xsearch.training import material as records_of

from .features import Encoder, Regions, Tokens, embed, look, read, same_as_before
from .hard import neighbours

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.core.encoder import Float32
    from xsearch.core.reports import ProgressCallback
    from xsearch.data.records import Record

    from .config import RerankConfig

    Indices = NDArray[np.int64]
    Box = tuple[float, float, float, float]
    Named = dict[int, list[tuple[tuple[int, int], tuple[Box, ...]]]]

FOLDER = "features"
AUGMENTATION = ImageAugmentation()
STATEMENTS = 2
"""Of a scene that are learnt from, each with as many wrong ones at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Captioned:
    """Pictures with captions: caption j is of picture owners[j], and in the main language where
    main[j]; vectors are the encoder's.
    """

    regions: Regions
    tokens: Tokens
    owners: Indices
    main: NDArray[np.bool_]
    vectors: Float32

    def __len__(self) -> int:
        return len(self.regions.views[0])

    def captions_of(self) -> list[Indices]:
        """The numbers of each picture's captions."""
        order = np.argsort(self.owners, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.owners, minlength=len(self)))[:-1])


@dataclass(frozen=True, slots=True, eq=False)
class Wrongs:
    """Wrong captions: of a caption i those from starts[i] to starts[i + 1]."""

    tokens: Tokens
    starts: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Made-up pictures. texts (n, statements, 1 + wrongs): numbers of texts, a true one first,
    -1 where there is none; `boxes` of the true ones' tokens that name things: by text, each
    token's number and the boxes of what it names, as shares of the picture.
    """

    regions: Regions
    tokens: Tokens
    texts: Indices
    boxes: dict[int, tuple[tuple[int, tuple[Box, ...]], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class RerankMaterial:
    """All that a run learns from and is measured on; `claims` as `Material.owners`.

    `broken` are lines about pictures that were left out, being unreadable.
    """

    train: Captioned
    claims: Indices
    near: Indices
    wrongs: Wrongs | None
    scenes: Scenes | None
    validation: Captioned | None
    languages: tuple[str, ...]
    leaks: int
    problems: tuple[str, ...]
    broken: tuple[str, ...]
    digest: str


def gather(
    config: RerankConfig,
    encoder: Encoder,
    out: Path,
    progress: ProgressCallback,
    *,
    expected: str | None = None,
) -> RerankMaterial:
    """Read the data, and look at and read all of it with the encoder, unless that was done.

    `expected` is the digest of what a run that goes on began with. Raises SourceError and what
    else `xsearch.training.material.gather` raises, TrainingError where the data is not as
    expected, StorageError.
    """
    found = records_of.gather(config.data, progress)
    reasons = _unreadable((*found.train, *found.validation), encoder.image_size, progress)
    count = len(found.train)
    kept = [at for at in range(count) if reasons[at] is None]
    claims = np.array(found.owners, np.int64)[kept]
    if len(set(claims.tolist())) < config.batch.group:
        raise SourceError(
            f"{len(kept)} pictures to learn from, described in {len(set(claims.tolist()))} ways, "
            f"are too few: a group has {config.batch.group} that differ; give more, or a smaller "
            "--set batch.group"
        )
    folder = out / FOLDER
    learnt = [found.train[at] for at in kept]
    aside = zip(found.validation, reasons[count:], strict=True)
    measured = [record for record, reason in aside if reason is None]
    language = config.data.language
    learnt = [_fewer(record, config, config.material.foreign) for record in learnt]
    measured = [_fewer(record, config, 0) for record in measured]
    digest = _digest([learnt, measured], config, encoder)
    if expected not in (None, digest):
        raise TrainingError(
            f"{out}: the pictures or captions to be learnt from have changed since this run "
            "began; begin a new one in another folder with --out"
        )
    same_as_before(folder, {"digest": digest})
    train = _captioned(encoder, learnt, language, config.material.views, folder / "train", progress)
    validation = None
    if len(measured) > 1:
        validation = _captioned(encoder, measured, language, 1, folder / "val", progress)
    wrongs = None
    if config.material.wrong:
        wrongs = _wrongs(encoder, learnt, config.seed, folder, progress)
    scenes = None
    if config.material.scenes and config.batch.scenes:
        scenes = _scenes(encoder, config.material.scenes, folder / "scenes", progress)
    return RerankMaterial(
        train=train,
        claims=claims,
        near=neighbours(train.regions.vectors, train.vectors, train.owners),
        wrongs=wrongs,
        scenes=scenes,
        validation=validation,
        languages=tuple(sorted({language for record in learnt for language in record.captions})),
        leaks=found.leaks,
        problems=found.problems,
        broken=tuple(reason for reason in reasons if reason is not None),
        digest=digest,
    )


def _unreadable(
    records: Sequence[Record], side: int, progress: ProgressCallback
) -> list[str | None]:
    """Of each record whose picture cannot be read, the reason, with its name."""

    def reason(record: Record) -> str | None:
        try:
            record.image.open(side)
        except ImageError as error:
            return f"{displayable(record.key)}: {error}"
        return None

    found = []
    opened = map_in_order(reason, records, workers=None, window=64)
    with closing(opened):
        for done, (_, said) in enumerate(opened, 1):
            found.append(said)
            progress(Progress("show", done, len(records)))
    return found


def _fewer(record: Record, config: RerankConfig, foreign: int) -> Record:
    """All captions of the main language, and some of the others; of a picture without it, all."""
    main = record.captions.get(config.data.language)
    if not main:
        return record
    others = {name: texts[:foreign] for name, texts in record.captions.items() if foreign}
    return replace(record, captions={**others, config.data.language: main})


def _languages(record: Record) -> list[str]:
    """The language of each of a record's texts."""
    return [name for name, texts in record.captions.items() for _ in texts]


def _captioned(
    encoder: Encoder,
    records: Sequence[Record],
    language: str,
    views: int,
    folder: Path,
    progress: ProgressCallback,
) -> Captioned:
    texts = [text for record in records for text in record.texts()]
    counts = [len(record.texts()) for record in records]
    sided = [any(map(mentions_side, record.texts())) for record in records]
    side = encoder.image_size

    def picture(row: int, view: int) -> Image.Image:
        try:
            image = records[row].image.open(side if not view else 2 * side)
        except ImageError as error:
            raise SourceError(
                f"{displayable(records[row].key)}: {error}; it could be read a while ago. Begin "
                "again, with the same command"
            ) from error
        if not view:
            return image
        random = np.random.default_rng([row, view])
        # Squashed or cropped by the encoder afterwards, as any picture is.
        size = max(side, 64)
        return AUGMENTATION.apply(image, size, "squash", random, flip=not sided[row])

    folder.mkdir(parents=True, exist_ok=True)
    return Captioned(
        look(encoder, len(records), picture, views, folder, progress),
        read(encoder, texts, folder / "tokens.npz", progress),
        np.repeat(np.arange(len(records)), counts),
        np.array([name == language for each in records for name in _languages(each)], np.bool_),
        embed(encoder, texts, folder / "texts.npz", progress),
    )


def _wrongs(
    encoder: Encoder,
    records: Sequence[Record],
    seed: int,
    folder: Path,
    progress: ProgressCallback,
) -> Wrongs | None:
    """Wrong captions of the English ones, two at most of each: swaps first, which are rare."""
    random = np.random.default_rng([seed, 1])
    texts: list[str] = []
    starts = [0]
    for record in records:
        english = record.captions.get("en", ())
        for language, captions in record.captions.items():
            for caption in captions:
                if language == "en":
                    others = [text for text in english if text != caption]
                    found = corruptions(caption, others, random=random)
                    swaps = [each for each in found if each.kind.startswith("swap")]
                    rest = [each for each in found if not each.kind.startswith("swap")]
                    kept = swaps[:1]
                    if rest:
                        kept.append(rest[int(random.integers(len(rest)))])
                    texts += [each.text for each in kept]
                starts.append(len(texts))
    if not texts:
        return None
    return Wrongs(read(encoder, texts, folder / "wrong.npz", progress), np.array(starts, np.int64))


def _scenes(encoder: Encoder, count: int, folder: Path, progress: ProgressCallback) -> Scenes:
    texts: list[str] = []
    rows = np.full((count, STATEMENTS, 1 + STATEMENTS), -1, np.int64)
    named: Named = {}
    for number in range(count):
        made = scene("train", number)
        random = np.random.default_rng(number)
        pairs = list(zip(made.statements, made.wrongs, strict=True))[:STATEMENTS]
        for place, (statement, wrongs) in enumerate(pairs):
            drawn = random.permutation(len(wrongs))[:STATEMENTS]
            group = [statement.text, *(wrongs[at].text for at in drawn)]
            rows[number, place, : len(group)] = np.arange(len(texts), len(texts) + len(group))
            named[len(texts)] = [
                ((mention.start, mention.end), tuple(made.things[at].box for at in mention.things))
                for mention in statement.mentions
            ]
            texts += group

    def picture(row: int, _: int) -> Image.Image:
        return scene("train", row).draw(encoder.image_size)

    folder.mkdir(parents=True, exist_ok=True)
    return Scenes(
        look(encoder, count, picture, 1, folder, progress),
        read(encoder, texts, folder / "tokens.npz", progress),
        rows,
        _boxes(encoder, texts, named),
    )


def _boxes(
    encoder: Encoder, texts: Sequence[str], named: Named
) -> dict[int, tuple[tuple[int, tuple[Box, ...]], ...]]:
    """Which tokens name things, and their boxes; none where tokens have no known places."""
    spans_of = getattr(encoder, "spans", None)
    if spans_of is None:
        return {}
    numbers = list(named)
    found = {}
    for number, spans in zip(numbers, spans_of([texts[each] for each in numbers]), strict=True):
        found[number] = tuple(
            (token, boxes)
            for token, (start, end) in enumerate(spans)
            for (first, last), boxes in named[number]
            if start < end and first <= start and end <= last
        )
    return found


def _digest(sets: Sequence[Sequence[Record]], config: RerankConfig, encoder: Encoder) -> str:
    """A name of all that features rest on."""
    parts: list[Any] = [encoder.fingerprint, encoder.info.precision, config.seed]
    parts += [config.material.views, config.material.wrong, config.material.scenes]
    for records in sets:
        parts += [(each.key, sorted(each.captions.items())) for each in records]
    return hash_text(repr(parts)).hex()
