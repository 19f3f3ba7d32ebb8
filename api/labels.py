"""Labels for pictures: of loose files, and of a library's from their stored vectors."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.arguments import as_paths
from xsearch.core.errors import ImageError, SourceError, UsageError
from xsearch.core.paths import absolute, displayable
from xsearch.core.reports import Progress, ProgressCallback, TagReport
from xsearch.core.values import Classified, LabelProbability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder
    from xsearch.indexer.reader import Reader, Snapshot
    from xsearch.retrieval.zero_shot import Labels

    PathLike = str | os.PathLike[str]
    Pixels = NDArray[np.uint8]

BATCH = 16
ROWS = 8_192
"""Stored vectors compared at once."""


def classify(
    paths: PathLike | Iterable[PathLike],
    labels: str | Iterable[str],
    *,
    encoder: str | os.PathLike[str] | DualEncoder = "builtin",
    device: str | None = None,
    templates: Sequence[str] | None = None,
    language: str | None = None,
    multi: bool = False,
    top: int | None = None,
    workers: int | None = None,
    batch_size: int = BATCH,
    progress: ProgressCallback | None = None,
) -> Iterator[Classified]:
    """Say which of some labels fit pictures, with probabilities; no library is needed.

    The pictures come one by one, in the order of `paths`, folders in the order of their names;
    one that cannot be read comes with a reason.

    Args:
        paths: pictures, and folders of pictures (hidden ones, and what `.xsearchignore` names,
            are left out).
        labels: words or sentences, in any language that the encoder reads.
        encoder: a name, a folder or an encoder object.
        device: where the encoder runs, see `load_encoder`.
        templates: sentences that labels are put into, `{}` being the label.
        language: whose sentences to use instead, such as `de`; by default English ones for
            English labels, and none for others.
        multi: any number of labels may fit, each with a probability of its own; otherwise one
            does, or none.
        top: keep only the most probable labels of each picture.
        workers: threads that read and decode; default: the number of cores.
        batch_size: pictures given to the encoder at once.
        progress: called often, from the calling thread, with a `Progress`.

    Raises:
        UsageError: no labels, an empty one, or templates that cannot be used.
        SourceError: a path that does not exist.
        EncoderError: the encoder cannot be loaded.
    """
    if batch_size < 1 or (workers is not None and workers < 1) or (top is not None and top < 1):
        raise UsageError("workers, batch size and top must be at least 1")
    from xsearch.retrieval.encoders import load_encoder

    places = _there(as_paths(paths))
    if isinstance(encoder, str | os.PathLike):
        name = encoder if isinstance(encoder, str) else Path(encoder)
        encoder = load_encoder(name, device=device)
    ready = prepare(encoder, labels, templates, language)
    files = _pictures(places)
    return _classified(encoder, ready, files, multi, top, workers, batch_size, progress)


def prepare(
    encoder: DualEncoder,
    labels: str | Iterable[str],
    templates: Sequence[str] | None,
    language: str | None,
) -> Labels:
    """Labels ready to be compared; see `classify`."""
    from xsearch.retrieval.phrases import templates_for
    from xsearch.retrieval.zero_shot import Labels, clean

    names = clean(labels)
    chosen = templates_for(language, names) if templates is None else templates
    return Labels.of(encoder, names, chosen)


def _there(paths: Iterable[PathLike]) -> list[Path]:
    """Absolute paths, each once. Raises SourceError where one does not exist."""
    places = list(dict.fromkeys(absolute(path) for path in paths))
    for place in places:
        if not place.exists():
            raise SourceError(f"{displayable(place)}: no such file or folder")
    return places


def _pictures(places: Iterable[Path]) -> Iterator[tuple[Path, str | None]]:
    """Files as they are, and the pictures of folders; with what is wrong, if that is known."""
    from xsearch.indexer.scan import Rules, walk

    for place in places:
        if not place.is_dir():
            yield place, None
            continue
        for listing in walk(place, "", Rules()):
            folder = place / listing.folder
            if listing.error is not None:
                yield folder, listing.error
            yield from ((folder / entry.name, entry.error) for entry in listing.images)


def _classified(
    encoder: DualEncoder,
    labels: Labels,
    files: Iterator[tuple[Path, str | None]],
    multi: bool,
    top: int | None,
    workers: int | None,
    batch_size: int,
    progress: ProgressCallback | None,
) -> Iterator[Classified]:
    import numpy as np

    from xsearch.core.images import quiet_pillow
    from xsearch.core.ordered import map_in_order

    done = 0
    with (
        quiet_pillow(),
        closing(
            map_in_order(_reader(encoder), files, workers=workers, window=2 * batch_size)
        ) as read,
    ):
        while chunk := list(itertools.islice(read, batch_size)):
            good = [pixels for _, pixels in chunk if not isinstance(pixels, str)]
            vectors = np.empty((0, encoder.dim), np.float32)
            if good:
                vectors = encoder.embed_images(np.stack(good))
            found = results(labels, vectors, multi, top)
            for (path, _), pixels in chunk:
                done += 1
                if progress:
                    progress(Progress("pictures", done, path=displayable(path)))
                if isinstance(pixels, str):
                    yield Classified(path, (), reason=pixels)
                else:
                    yield Classified(path, *next(found))


def _reader(encoder: DualEncoder) -> Callable[[tuple[Path, str | None]], Pixels | str]:
    """What makes a prepared picture of a file, or says why there is none."""
    from xsearch.core.images import decode

    def read(file: tuple[Path, str | None]) -> Pixels | str:
        path, error = file
        if error is not None:
            return error
        try:
            return encoder.preprocess(decode(path, min_side=encoder.image_size).image)
        except ImageError as refused:
            return str(refused)

    return read


def results(
    labels: Labels, vectors: NDArray[np.float32], multi: bool, top: int | None
) -> Iterator[tuple[tuple[LabelProbability, ...], float | None]]:
    """For each unit vector (n, dim): labels, most probable first, and the probability of none."""
    found = labels.each(vectors) if multi else labels.among(vectors)
    # Stable, so that equals stay in the order in which the labels were given.
    order = (-found).argsort(axis=1, kind="stable")[:, :top]
    for row, best in zip(found, order, strict=True):
        none = None if multi else max(0.0, 1.0 - float(row.sum()))
        yield tuple(LabelProbability(labels.names[at], float(row[at])) for at in best), none


def classify_items(
    reader: Reader, encoder: DualEncoder, labels: Labels, multi: bool, top: int | None
) -> Iterator[Classified]:
    """The same for a library's pictures, from their vectors, without reading any file."""
    import numpy as np

    from xsearch.indexer.tags import first_files

    rows, ids, vectors = _stored(reader, encoder)
    for start in range(0, len(rows), ROWS):
        part = ids[start : start + ROWS].tolist()
        with reader.snapshot() as snapshot:
            places = first_files(snapshot, part)
        found = results(labels, vectors[rows[start : start + ROWS]].astype(np.float32), multi, top)
        for id_, (probabilities, none) in zip(part, found, strict=True):
            yield Classified(places.get(id_), probabilities, none, id=id_)


def _fitting(
    reader: Reader,
    encoder: DualEncoder,
    labels: Labels,
    min_score: float,
    top: int | None,
    progress: ProgressCallback | None,
) -> tuple[int, dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    """How many pictures there are; for each label, items (n,) that it fits, and how probably.

    Each label stands by itself; with `top`, only that many of a picture's labels count.
    """
    import numpy as np

    rows, ids, vectors = _stored(reader, encoder)
    found: list[list[NDArray[np.float32]]] = [[] for _ in labels.names]
    chosen: list[list[NDArray[np.int64]]] = [[] for _ in labels.names]
    for start in range(0, len(rows), ROWS):
        scores = labels.each(vectors[rows[start : start + ROWS]].astype(np.float32))
        if top is not None and top < scores.shape[1]:
            order = (-scores).argsort(axis=1, kind="stable")
            np.put_along_axis(scores, order[:, top:], -1, axis=1)
        for at, column in enumerate(scores.T):
            fits = column >= min_score
            found[at].append(column[fits])
            chosen[at].append(ids[start : start + ROWS][fits])
        if progress:
            progress(Progress("tag", min(start + ROWS, len(rows)), len(rows)))
    nothing = (np.empty(0, np.int64), np.empty(0, np.float32))
    return len(rows), {
        name: (np.concatenate(chosen[at]), np.concatenate(found[at])) if found[at] else nothing
        for at, name in enumerate(labels.names)
    }


def tag(
    folder: Path,
    reader: Reader,
    encoder: DualEncoder,
    labels: Labels,
    *,
    min_score: float,
    top: int | None,
    dry_run: bool,
    progress: ProgressCallback | None,
) -> TagReport:
    """Compare labels with a library's pictures and, unless `dry_run`, store what fits.

    Whoever stores holds the writer's lock. All is stored in one transaction: what interrupts it
    leaves the tags as they were.
    """
    import numpy as np

    from xsearch.indexer.catalog import Catalog
    from xsearch.indexer.tags import replace_scores

    start = time.perf_counter()
    pictures, found = _fitting(reader, encoder, labels, min_score, top, progress)
    if not dry_run:
        with Catalog(folder) as catalog:
            replace_scores(catalog, labels.names, ((*found[name], name) for name in found))
    ids = [items for items, _ in found.values()]
    return TagReport(
        pictures=pictures,
        tagged=len(np.unique(np.concatenate(ids))),
        tags={name: len(items) for name, (items, _) in found.items()},
        stored=not dry_run,
        seconds=time.perf_counter() - start,
    )


def _stored(
    reader: Reader, encoder: DualEncoder
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16]]:
    """Rows and items of a library's pictures, and the memory-mapped vectors (n, dim).

    Raises:
        EncoderMismatchError: the library has no vectors of this encoder.
        LibraryError: the vectors are missing.
    """
    import numpy as np

    from xsearch.indexer.reader import usable_encoder
    from xsearch.indexer.tags import live_images
    from xsearch.indexer.vectors import open_rows, vector_path

    def find(
        snapshot: Snapshot,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16]]:
        row = usable_encoder(snapshot, encoder.info, reader.folder)
        if row is None:
            none = np.empty(0, np.int64)
            return none, none, np.empty((0, encoder.dim), np.float16)
        path = vector_path(reader.folder, row.fingerprint, row.generation)
        return *live_images(snapshot, row.id), open_rows(path, row.rows, row.dim)

    return reader.answer(find)
