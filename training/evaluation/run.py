"""Evaluates any encoder on any data set: retrieval by language, classification, captions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import UsageError
from xsearch.core.extras import require
from xsearch.core.paths import displayable
from xsearch.core.reports import ProgressCallback
from xsearch.data.records import Dataset, Record
from xsearch.retrieval.phrases import TEMPLATES
from xsearch.retrieval.zero_shot import class_vectors

from .captions import Bleu, bleu
from .embed import Pictures, embed_pictures, embed_texts
from .examples import pick_examples
from .metrics import CUTS, Array, Float64, Int64, figures, nearest, retrieval, similarities
from .results import Evaluation, LanguageEvaluation
from .sentences import sentences
from .zero_shot import Classification, classify

_RANDOM_PAIRS = 10_000


@dataclass(frozen=True, slots=True)
class _Settings:
    """What is asked for, checked."""

    cuts: tuple[int, ...]
    bootstrap: int
    seed: int
    templates: tuple[str, ...]
    progress: ProgressCallback | None


def evaluate(
    encoder: DualEncoder,
    dataset: Dataset,
    *,
    split: str | None = None,
    languages: Sequence[str] | None = None,
    cuts: Sequence[int] = CUTS,
    labels: bool | None = None,
    templates: Sequence[str] = TEMPLATES,
    captions_from: str | Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    batch_size: int = 16,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Measure an encoder on a data set.

    Args:
        encoder: any dual encoder.
        dataset: any data set that `read_dataset` reads.
        split: which part; None: `test` where there is one, else everything.
        languages: each is evaluated by itself, among the pictures that have a text in it (and a
            key such as `zh_human_translation` is a language); None: all there are.
        cuts: recall at these ranks; nDCG is cut off at the largest.
        labels: classify pictures by class names; None: where the data set has labels.
        templates: sentences for class names, `{}` being the name.
        captions_from: another split, `bank` (the reference bank that ships with xsearch), or a
            `.txt`, `.csv` or `.jsonl` file, for one language: what the nearest sentences to
            pictures are taken from that BLEU judges.
        bootstrap: resamplings for 95 % intervals, 0 for none.
        seed: of the resampling.
        limit: use only so many pictures, spread evenly over the split.
        workers: threads that decode; None: one a core.
        batch_size: pictures embedded at once.
        progress: is told how far embedding is.

    A picture that cannot be read is left out, with its texts, and named in the result. Raises
    UsageError for what the data set does not have, SourceError when no picture, or not the file of
    captions, can be read, EncoderError when vectors are not finite, MissingExtraError for BLEU
    without sacrebleu.
    """
    start = time.perf_counter()
    if captions_from is not None:
        require("sacrebleu", "evaluate", "BLEU")
    settings = _settings(cuts, bootstrap, seed, templates, progress)
    split, chosen = _chosen(dataset, split)
    wanted = _languages(dataset, chosen, languages)
    labels = _labels(chosen, labels)
    if not wanted and not labels:
        raise UsageError(f"{dataset.name}: neither captions nor labels to evaluate")
    sources = None
    if captions_from is not None:
        sources = sentences(dataset, captions_from, split, wanted)
    used = [r for r in chosen if (labels and r.labels) or any(map(r.captions.get, wanted))]
    pictures = embed_pictures(
        encoder, _spread(used, limit), workers=workers, batch_size=batch_size, progress=progress
    )
    # The classes of the whole data set: to choose from those of a part would be easier.
    names = sorted({label for record in dataset.records for label in record.labels})
    return Evaluation(
        encoder=encoder.info,
        dataset=dataset.name,
        split=split,
        limit=limit,
        pictures=len(pictures.records),
        failures=pictures.failures,
        problems=dataset.problems,
        languages={
            language: found
            for language in wanted
            if (found := _language(encoder, pictures, language, sources, settings))
        },
        zero_shot=_zero_shot(encoder, pictures, names, settings) if labels else None,
        captions_from=None if captions_from is None else displayable(captions_from),
        bootstrap=bootstrap,
        seed=seed,
        seconds=time.perf_counter() - start,
    )


def _settings(
    cuts: Sequence[int],
    bootstrap: int,
    seed: int,
    templates: Sequence[str],
    progress: ProgressCallback | None,
) -> _Settings:
    if not cuts or min(cuts) < 1:
        raise UsageError(f"recall at {list(cuts)}: ranks count from 1, and one is needed")
    if bootstrap < 0:
        raise UsageError(f"{bootstrap} resamplings: 0 for none, 1000 are usual")
    return _Settings(tuple(sorted(set(cuts))), bootstrap, seed, tuple(templates), progress)


def _chosen(dataset: Dataset, split: str | None) -> tuple[str | None, tuple[Record, ...]]:
    """The split to use, and its records."""
    if split is None:
        if "test" not in dataset.splits:
            return None, dataset.records
        split = "test"
    if split not in dataset.splits:
        raise UsageError(f"{dataset.name} has no split {split!r}: {_listed(dataset.splits)}")
    return split, dataset.only(split).records


def _languages(
    dataset: Dataset, chosen: Sequence[Record], asked: Sequence[str] | None
) -> tuple[str, ...]:
    """The languages to evaluate, in the order asked for, or in the data set's."""
    there = {name for record in chosen for name, texts in record.captions.items() if texts}
    known = tuple(name for name in dataset.languages if name in there)
    if asked is None:
        return known
    for language in asked:
        if language not in there:
            raise UsageError(f"{dataset.name} has no texts in {language!r}: {_listed(known)}")
    return tuple(dict.fromkeys(asked))


def _labels(chosen: Sequence[Record], asked: bool | None) -> bool:
    there = any(record.labels for record in chosen)
    if asked and not there:
        raise UsageError("no picture of this data set has a label: leave out the classification")
    return there if asked is None else asked


def _listed(names: Sequence[str]) -> str:
    return f"there is {', '.join(names)}" if names else "it has none"


def _spread(records: Sequence[Record], limit: int | None) -> Sequence[Record]:
    """At most `limit` records at equal distances: files are often sorted by class."""
    if limit is None or limit >= len(records):
        return records
    if limit < 1:
        raise UsageError(f"a limit of {limit} pictures leaves nothing to evaluate")
    return [records[at * len(records) // limit] for at in range(limit)]


def _language(
    encoder: DualEncoder,
    pictures: Pictures,
    language: str,
    sources: Mapping[str, Sequence[str]] | None,
    settings: _Settings,
) -> LanguageEvaluation | None:
    """Retrieval in one language; None where no picture that was read has a text in it."""
    rows = [at for at, r in enumerate(pictures.records) if r.captions.get(language)]
    if not rows:
        return None
    records = [pictures.records[at] for at in rows]
    images = pictures.vectors[rows]
    references = [record.captions[language] for record in records]
    texts = [text for own in references for text in own]
    owners = np.repeat(np.arange(len(records)), [len(own) for own in references])
    embedded = embed_texts(encoder, texts, progress=settings.progress)
    depth = max(settings.cuts)
    found = retrieval(images, embedded.vectors, owners, depth=depth)
    forward, back = (
        figures(ranks, settings.cuts, depth=depth, samples=settings.bootstrap, seed=settings.seed)
        for ranks in (found.text_to_image, found.image_to_text)
    )
    judged = None
    if sources is not None:
        found_in = sources.get(language, ())
        judged = _bleu(encoder, images, references, language, found_in, settings.progress)
    return LanguageEvaluation(
        language=language,
        pictures=len(records),
        texts=len(texts),
        cut=int(embedded.cut.sum()),
        text_to_image=forward,
        image_to_text=back,
        bleu=judged,
        retrieval=found,
        true_similarity=found.similarity,
        random_similarity=_random_pairs(images, embedded.vectors, owners, settings.seed),
        examples=pick_examples(records, images, texts, embedded.vectors, owners, found),
    )


def _random_pairs(images: Array, texts: Array, owners: Int64, seed: int) -> Float64:
    """Cosines of texts with pictures that are not theirs."""
    if len(images) < 2:
        return np.zeros(0)
    random = np.random.default_rng(seed)
    chosen = random.integers(len(texts), size=_RANDOM_PAIRS)
    others = (owners[chosen] + random.integers(1, len(images), _RANDOM_PAIRS)) % len(images)
    return similarities(texts[chosen], images[others])


def _bleu(
    encoder: DualEncoder,
    images: Array,
    references: Sequence[Sequence[str]],
    language: str,
    candidates: Sequence[str],
    progress: ProgressCallback | None,
) -> Bleu | None:
    """BLEU of the nearest sentences; None where there is none in this language."""
    if not candidates:
        return None
    vectors = embed_texts(encoder, candidates, progress=progress).vectors
    best = nearest(images, vectors, 1)[:, 0]
    return bleu([candidates[at] for at in best], references, language=language)


def _zero_shot(
    encoder: DualEncoder, pictures: Pictures, names: Sequence[str], settings: _Settings
) -> Classification | None:
    """Classification of the pictures that have labels; None where none of them was read."""
    rows = [at for at, record in enumerate(pictures.records) if record.labels]
    if not rows:
        return None
    place = {name: at for at, name in enumerate(names)}
    truth = np.zeros((len(rows), len(names)), np.bool_)
    for row, at in enumerate(rows):
        truth[row, [place[label] for label in pictures.records[at].labels]] = True
    return classify(
        pictures.vectors[rows],
        class_vectors(encoder, names, settings.templates),
        truth,
        names,
        templates=settings.templates,
        samples=settings.bootstrap,
        seed=settings.seed,
    )
