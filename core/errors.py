"""The error tree: every failure that xsearch foresees, each message saying what to do next."""


class Error(Exception):
    """Base of all errors raised on purpose; its message is one line a user can act on."""


class UsageError(Error):
    """A call that cannot be answered as asked: a bad argument, an empty query."""


class LibraryNotFoundError(Error):
    """No library at the place that was named, or found by the usual search."""


class LibraryError(Error):
    """A library on disk is damaged or inconsistent; `xsearch check` says how."""


class LibraryLockedError(Error):
    """Another process is writing to the library; the message says which."""


class LibraryTooNewError(LibraryError):
    """The library was made by a newer version of xsearch than this one."""


class LibraryReadOnlyError(Error):
    """The library's folder cannot be written to; it can still be searched."""


class StorageError(Error):
    """The disk refused a write (full, quota, I/O error); what was committed stays."""


class EncoderError(Error):
    """An encoder's files are missing, damaged or not understood."""


class EncoderMismatchError(EncoderError):
    """A library holds vectors of one encoder and was asked to use another."""


class SourceError(Error):
    """A path or URL given by the user cannot be read as what it should be."""


class ImageError(SourceError):
    """A picture cannot be used. `code` is stable, the message is for people.

    Codes: `unreadable` (cannot be opened or read: worth another try later), `changed` (was
    written to while it was read: likewise), `too-large` (over the pixel limit), `decode`
    (damaged, truncated or not a picture).
    """

    def __init__(self, message: str, code: str = "decode") -> None:
        super().__init__(message)
        self.code = code


class TrainingError(Error):
    """Training cannot go on; the message names the last good checkpoint and what to do."""


class MissingExtraError(Error):
    """An optional dependency is not installed; the message holds the pip line."""
