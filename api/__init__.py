"""xsearch: search your own pictures and texts by meaning.

    import xsearch

    with xsearch.open("photos.xsearch") as library:
        library.index("./photos")
        for hit in library.search("cat on grass", k=5):
            print(hit.score, hit.path)

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xsearch.core.errors import (
    EncoderError,
    EncoderMismatchError,
    Error,
    ImageError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    LibraryReadOnlyError,
    LibraryTooNewError,
    MissingExtraError,
    SourceError,
    StorageError,
    TrainingError,
    UsageError,
)

if TYPE_CHECKING:
    from xsearch.captioning import Captioner, caption
    from xsearch.core.duplicates import DuplicateFile, DuplicateGroup, DuplicateReport
    from xsearch.core.encoder import DualEncoder, RegionEncoder, TextEmbeddings
    from xsearch.core.explained import MatchExplanation, WordRelevance
    from xsearch.core.filters import Filters
    from xsearch.core.query import Image, Item, Part, Query, TruncationWarning
    from xsearch.core.reports import (
        CheckReport,
        CompactReport,
        EncoderStatus,
        ExportReport,
        FailedFile,
        IndexPlan,
        IndexReport,
        IndexStatus,
        LibraryStatus,
        Progress,
        Rates,
        RegionStatus,
        ReindexReport,
        RemoveReport,
        TagReport,
    )
    from xsearch.core.values import (
        Caption,
        CaptionedImage,
        Classified,
        Hit,
        LabelProbability,
        TagCount,
        Tagged,
    )
    from xsearch.explaining import draw_explanation, explain
    from xsearch.labels import classify
    from xsearch.library import Library, open
    from xsearch.retrieval.explaining import explain_query
    from xsearch.retrieval.language import parse

_LAZY = {
    "Caption": "xsearch.core.values",
    "CaptionedImage": "xsearch.core.values",
    "Captioner": "xsearch.captioning",
    "CheckReport": "xsearch.core.reports",
    "Classified": "xsearch.core.values",
    "CompactReport": "xsearch.core.reports",
    "DualEncoder": "xsearch.core.encoder",
    "DuplicateFile": "xsearch.core.duplicates",
    "DuplicateGroup": "xsearch.core.duplicates",
    "DuplicateReport": "xsearch.core.duplicates",
    "EncoderStatus": "xsearch.core.reports",
    "ExportReport": "xsearch.core.reports",
    "FailedFile": "xsearch.core.reports",
    "Filters": "xsearch.core.filters",
    "Hit": "xsearch.core.values",
    "Image": "xsearch.core.query",
    "IndexPlan": "xsearch.core.reports",
    "IndexReport": "xsearch.core.reports",
    "IndexStatus": "xsearch.core.reports",
    "Item": "xsearch.core.query",
    "LabelProbability": "xsearch.core.values",
    "Library": "xsearch.library",
    "LibraryStatus": "xsearch.core.reports",
    "MatchExplanation": "xsearch.core.explained",
    "Part": "xsearch.core.query",
    "Progress": "xsearch.core.reports",
    "Query": "xsearch.core.query",
    "Rates": "xsearch.core.reports",
    "RegionEncoder": "xsearch.core.encoder",
    "RegionStatus": "xsearch.core.reports",
    "ReindexReport": "xsearch.core.reports",
    "RemoveReport": "xsearch.core.reports",
    "TagCount": "xsearch.core.values",
    "TagReport": "xsearch.core.reports",
    "Tagged": "xsearch.core.values",
    "TextEmbeddings": "xsearch.core.encoder",
    "TruncationWarning": "xsearch.core.query",
    "WordRelevance": "xsearch.core.explained",
    "caption": "xsearch.captioning",
    "classify": "xsearch.labels",
    "draw_explanation": "xsearch.explaining",
    "explain": "xsearch.explaining",
    "explain_query": "xsearch.retrieval.explaining",
    "open": "xsearch.library",
    "parse": "xsearch.retrieval.language",
}

__all__ = [
    "Caption",
    "CaptionedImage",
    "Captioner",
    "CheckReport",
    "Classified",
    "CompactReport",
    "DualEncoder",
    "DuplicateFile",
    "DuplicateGroup",
    "DuplicateReport",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderStatus",
    "Error",
    "ExportReport",
    "FailedFile",
    "Filters",
    "Hit",
    "Image",
    "ImageError",
    "IndexPlan",
    "IndexReport",
    "IndexStatus",
    "Item",
    "LabelProbability",
    "Library",
    "LibraryError",
    "LibraryLockedError",
    "LibraryNotFoundError",
    "LibraryReadOnlyError",
    "LibraryStatus",
    "LibraryTooNewError",
    "MatchExplanation",
    "MissingExtraError",
    "Part",
    "Progress",
    "Query",
    "Rates",
    "RegionEncoder",
    "RegionStatus",
    "ReindexReport",
    "RemoveReport",
    "SourceError",
    "StorageError",
    "TagCount",
    "TagReport",
    "Tagged",
    "TextEmbeddings",
    "TrainingError",
    "TruncationWarning",
    "UsageError",
    "WordRelevance",
    "__version__",
    "caption",
    "classify",
    "draw_explanation",
    "explain",
    "explain_query",
    "open",
    "parse",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("xsearch-engine")
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'xsearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
