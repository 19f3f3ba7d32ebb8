"""Picture files to upright RGB pictures, whatever their format, or one plain reason why not.

The decoding policy (it is part of what an embedding means): the first frame; EXIF orientation
applied once; transparency laid over white; deep pictures scaled to 8 bits; JPEG decoded at the
smallest DCT scale that still covers what the caller needs. Colour profiles are not applied.
Nothing of Pillow is imported before the first picture is decoded.
"""

from __future__ import annotations

import errno
import io
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from xsearch.core.errors import ImageError
from xsearch.core.formats import SUFFIXES_OF
from xsearch.core.values import ImageMetadata

if TYPE_CHECKING:
    from PIL import Image, ImageFile

# Covers the largest phone cameras (16320 x 12240 = 199,756,800).
DEFAULT_MAX_PIXELS = 200_000_000

_HEADER_BYTES = 16
_WHITE = (255, 255, 255)
_CUT_SHORT = re.compile("truncated|not enough image data|end of file", re.IGNORECASE)
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture, upright, RGB, loaded and independent of its file, and what the file says of it.

    `image` may be smaller than `metadata.width` x `metadata.height` (see `decode`).
    """

    image: Image.Image
    metadata: ImageMetadata


def decode(
    source: Path | BinaryIO,
    *,
    min_side: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    draft: bool = True,
) -> DecodedImage:
    """Decode a picture file, recognised by its content, into an upright RGB picture.

    `source` is a path, or a binary file (read from its start, left open). With `min_side`
    (pixels) the picture may come reduced, each side at least `min_side` or else as in the file;
    `draft=False` forbids decoding JPEG at a reduced DCT scale. Raises `ImageError`, whose
    message does not name the file: `too-large` over `max_pixels` (before pixels are decoded),
    `unreadable` where the file system refuses, `decode` for all else, truncated files included.
    """
    if isinstance(source, PurePath):
        try:
            file: BinaryIO = Path(source).open("rb")  # noqa: SIM115 - closed below
        except (OSError, ValueError) as error:
            raise ImageError(_reading_failed(error), "unreadable") from error
        with file:
            return _decode_file(file, min_side, max_pixels, draft)
    return _decode_file(source, min_side, max_pixels, draft)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings and log lines about odd files off the terminal.

    To be entered once, around a whole run and outside its threads: warning filters belong to
    the process, and changing them from several threads at once loses them.
    """
    handler = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("PIL", "pillow_heif")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
        # A null handler stops only the logging of last resort, to stderr: a program that set
        # up logging still gets the records.
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(handler)


def _decode_file(
    file: BinaryIO, min_side: int | None, max_pixels: int, draft: bool
) -> DecodedImage:
    from PIL import Image

    try:
        if not file.seekable():
            file = io.BytesIO(file.read())
        with _whole_pictures_only():
            try:
                return _decode_open(file, min_side, max_pixels, draft)
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                # The limit of Pillow (or of the embedding program), which its WebP and TIFF
                # plugins check by themselves. The one that counts here is `max_pixels`.
                with _pillow_limit_lifted():
                    return _decode_open(file, min_side, max_pixels, draft)
    except ImageError:
        raise
    except Exception as error:  # a broken file makes plugins raise nearly anything
        _refuse(error)


def _decode_open(
    file: BinaryIO, min_side: int | None, max_pixels: int, draft: bool
) -> DecodedImage:
    from xsearch.core.metadata import pending_orientation, read_metadata, read_orientation

    image = _identify(file)
    _check_pixels(image.size, max_pixels)
    size = image.size
    # Pillow's TIFF plugin turns the picture while loading, and then forgets the tag.
    tiff_orientation = read_orientation(image) if image.format == "TIFF" else None
    if draft and min_side and image.format in ("JPEG", "MPO"):
        image.draft(None, (min_side, min_side))
    image.load()
    # Read after loading, since PNG may keep its EXIF behind the pixels.
    orientation = pending_orientation(image)
    if orientation >= 5:
        size = size[1], size[0]
    metadata = read_metadata(image, size)
    if tiff_orientation is not None:
        metadata = replace(metadata, orientation=tiff_orientation)
    return DecodedImage(_finish(image, orientation, min_side), metadata)


def _identify(file: BinaryIO) -> ImageFile.ImageFile:
    """Open a picture with the plugin that knows its first bytes.

    `Image.open` is not used: it applies the process-wide pixel limit, warns from whichever
    thread it runs in, and tries every plugin there is, with those that run other programs.
    """
    from PIL import Image

    file.seek(0)
    header = file.read(_HEADER_BYTES)
    if not header:
        raise ImageError("the file is empty")
    Image.preinit()
    if header[4:8] == b"ftyp":
        _register_heif()
    failure: Exception | None = None  # of the plugin that knew the first bytes
    for name in SUFFIXES_OF:
        if name not in Image.OPEN:
            Image.init()
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        # TGA has no signature: it is tried only on what no other plugin recognises.
        if accept is None and failure is not None:
            continue
        file.seek(0)
        try:
            # A plugin that lacks its library answers with a text.
            if accept is None or accept(header) is True:
                return factory(file, "")
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise
        except Exception as error:
            if _is_reading_failure(error):
                raise
            failure = failure or (error if accept else None)
    if failure is None:
        raise ImageError("not a picture in a known format")
    raise failure


def _register_heif() -> None:
    """Add pillow-heif to Pillow's plugins, once, when a file first needs it (0.1 s)."""
    from PIL import Image

    if "HEIF" in Image.OPEN:
        return
    with _lock:
        import pillow_heif

        pillow_heif.register_heif_opener()


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    pixels = size[0] * size[1]
    if pixels <= 0:
        raise ImageError("the picture has no pixels")
    if pixels > max_pixels:
        raise ImageError(
            f"{_megapixels(pixels)} megapixels, over the limit of {_megapixels(max_pixels)} "
            "(--max-pixels)",
            "too-large",
        )


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:,.0f}" if pixels >= 10_000_000 else f"{pixels / 1e6:.3g}"


def _finish(image: Image.Image, orientation: int, min_side: int | None) -> Image.Image:
    """RGB, reduced, upright: in this order, so that turning moves few pixels."""
    from PIL import Image

    loaded = image
    image = _to_rgb(image)
    # Box averaging to no less than twice the wanted side leaves the later, finer resizing
    # nearly unchanged (the `reducing_gap` of Pillow's own thumbnails).
    factor = min(image.size) // (2 * min_side) if min_side else 1
    if factor > 1:
        image = image.reduce(factor)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    if turn is not None:
        image = image.transpose(turn)
    elif image is loaded:
        image = image.copy()  # a plain picture: the plugin's object still knows its file
    # Without the tags: whoever applies the orientation again would turn the picture twice.
    image.info = {}
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Turn a loaded picture of any mode into RGB, over white where it is transparent."""
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I;16") or mode == "I":
        return _integers_to_grey(image).convert("RGB")
    if mode == "F":
        return _floats_to_grey(image).convert("RGB")
    if mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        # Pillow has no direct way from premultiplied grey to RGBA.
        return _over_white((image.convert("LA") if mode == "La" else image).convert("RGBA"))
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    alpha = image.getchannel("A")
    low, high = alpha.getextrema()
    # All opaque, or all transparent: an unused channel (some writers leave it zero).
    if low == 255 or high == 0:
        return image.convert("RGB")
    canvas = Image.new("RGB", image.size, _WHITE)
    canvas.paste(image.convert("RGB"), mask=alpha)
    return canvas


def _integers_to_grey(image: Image.Image) -> Image.Image:
    """Scale 16 and 32-bit greys to 8 bits.

    0 to 65535 is the scale, but 12-bit pictures in 16-bit files, as microscopes and scanners
    write them, get their own; what does not fit 16 bits is stretched from minimum to maximum.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        return _stretch(values, low, high)
    white = 0xFFF if high <= 0xFFF else 0xFFFF
    table = (np.arange(white + 1, dtype=np.uint32) * 255 + white // 2) // white
    return Image.fromarray(table.astype(np.uint8)[values])


def _floats_to_grey(image: Image.Image) -> Image.Image:
    """Stretch from the finite minimum to the finite maximum; NaN counts as the minimum."""
    import numpy as np

    values = np.asarray(image)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return _stretch(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)


def _stretch(values: Any, low: float, high: float) -> Image.Image:
    """Scale an array (h, w) so that `low` becomes 0 and `high` 255."""
    import numpy as np
    from PIL import Image

    span = (high - low) or 1.0
    scaled = (values.astype(np.float64) - low) * (255.0 / span)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    """Pillow converts CIE L*a*b* only through colour management."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("L*a*b* colours cannot be converted")
    return converted


class _Strictness:
    """How many decodings need `ImageFile.LOAD_TRUNCATED_IMAGES` to be off."""

    count = 0
    to_restore = False


@contextmanager
def _whole_pictures_only() -> Iterator[None]:
    """While any picture is decoded here, Pillow must refuse truncated files.

    An embedding program may have asked Pillow for half pictures; the setting is global and
    read while pixels load, so it is off from the first of our decodings to the last.
    """
    from PIL import ImageFile

    with _lock:
        if _Strictness.count == 0:
            _Strictness.to_restore = ImageFile.LOAD_TRUNCATED_IMAGES
            if _Strictness.to_restore:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
        _Strictness.count += 1
    try:
        yield
    finally:
        with _lock:
            _Strictness.count -= 1
            if _Strictness.count == 0 and _Strictness.to_restore:
                ImageFile.LOAD_TRUNCATED_IMAGES = True


_limit_lock = threading.Lock()


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Lift Pillow's global pixel limit for one decoding; one at a time, so that it returns."""
    from PIL import Image

    with _limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_reading_failure(error: Exception) -> bool:
    """Whether the file system failed, not the picture.

    Pillow raises OSError too, without a number; and a damaged file can make it seek to
    impossible places (EINVAL, EOVERFLOW).
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW)


def _reading_failed(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or error}"


def _refuse(error: Exception) -> NoReturn:
    """Raise an `ImageError` that says in plain words what went wrong."""
    if _is_reading_failure(error):
        raise ImageError(_reading_failed(error), "unreadable") from error
    if isinstance(error, MemoryError):
        raise ImageError("not enough memory to decode it", "too-large") from error
    # Pillow wraps what goes wrong in reading a header.
    origin = error.__cause__ if isinstance(error, SyntaxError) and error.__cause__ else error
    detail = " ".join(str(origin).split())
    if isinstance(origin, EOFError) or _CUT_SHORT.search(detail):
        raise ImageError("the file is truncated") from error
    # Messages of Python, not of Pillow: they say nothing to a person.
    if isinstance(origin, (struct.error, LookupError, TypeError, zlib.error)) or not detail:
        raise ImageError("the file is damaged") from error
    raise ImageError(f"the file is damaged ({detail[:120]})") from error
