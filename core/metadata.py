"""What a picture file says of itself: when and where it was taken, with what, and of what.

Everything here is read from files of strangers: a field that cannot be understood is left out,
and nothing raises. PNG text chunks are not read as captions: programs keep settings in them.
"""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from xsearch.core.values import EmbeddedCaption, ImageMetadata

if TYPE_CHECKING:
    from PIL import Image

MAX_CAPTION_CHARS = 2000
MAX_CAPTIONS = 32
MAX_KEYWORDS = 100
_MAX_NAME_CHARS = 100
_MAX_XMP_BYTES = 1 << 20
_MAX_RAW_TEXT = 1 << 16

# EXIF 2.32 (CIPA DC-008) tag numbers.
_IMAGE_DESCRIPTION, _MAKE, _MODEL, _ORIENTATION = 0x10E, 0x10F, 0x110, 0x112
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_USER_COMMENT, _LENS_MODEL = 0x9286, 0xA434
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012), (0x132, 0x9010))  # each with its UTC offset
_XP_TITLE, _XP_COMMENT, _XP_KEYWORDS, _XP_SUBJECT = 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F

# IPTC-IIM 4.2 datasets.
_IPTC_CHARSET, _IPTC_TITLE, _IPTC_HEADLINE, _IPTC_CAPTION = (1, 90), (2, 5), (2, 105), (2, 120)
_IPTC_KEYWORDS = (2, 25)
_IPTC_UTF8 = b"\x1b%G"

_RDF_LI = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_XMP_FIELDS = (
    "{http://purl.org/dc/elements/1.1/}title",
    "{http://ns.adobe.com/photoshop/1.0/}Headline",
    "{http://purl.org/dc/elements/1.1/}description",
    "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}AltTextAccessibility",
)
_XMP_KEYWORDS = "{http://purl.org/dc/elements/1.1/}subject"


def read_metadata(image: Image.Image, full_size: tuple[int, int]) -> ImageMetadata:
    """Read what an opened picture says of itself; never raises.

    `full_size` is the width and height in pixels of the whole picture, upright (a draft is
    smaller than its file says). For PNG and TIFF see `read_orientation`.
    """
    tags, gps = _exif(image)
    latitude, longitude = _position(gps)
    return ImageMetadata(
        width=full_size[0],
        height=full_size[1],
        format=image.format or "",
        orientation=read_orientation(image),
        taken_at=_taken_at(tags),
        camera=_camera(tags),
        lens=_name(tags.get(_LENS_MODEL)),
        latitude=latitude,
        longitude=longitude,
        captions=_captions(image, tags),
        keywords=_keywords(image, tags),
    )


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation the file records, 1 to 8; 1 where it records none.

    Pillow forgets that of a TIFF on loading its pixels, and may find that of a PNG only then.
    """
    if image.format == "HEIF":
        # pillow-heif turns pictures by itself, and keeps what EXIF said of it here.
        return _valid_orientation(image.info.get("original_orientation"))
    return pending_orientation(image)


def pending_orientation(image: Image.Image) -> int:
    """The orientation, 1 to 8, that the pixels of an opened picture still lack."""
    with contextlib.suppress(Exception):
        return _valid_orientation(image.getexif().get(_ORIENTATION))
    return 1


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(image: Image.Image) -> tuple[dict[int, Any], dict[int, Any]]:
    """The main and Exif directories in one, and the GPS directory, as far as can be read."""
    tags: dict[int, Any] = {}
    gps: dict[int, Any] = {}
    with contextlib.suppress(Exception):
        exif = image.getexif()
        _copy_readable(exif, tags)
        for tag, directory in ((_EXIF_IFD, tags), (_GPS_IFD, gps)):
            with contextlib.suppress(Exception):
                _copy_readable(exif.get_ifd(tag), directory)
    return tags, gps


def _copy_readable(source: Mapping[int, Any], target: dict[int, Any]) -> None:
    # One tag at a time: Pillow decodes values when asked, and one may be broken.
    for tag in list(source):
        with contextlib.suppress(Exception):
            target[tag] = source[tag]


# Times and places


def _taken_at(tags: Mapping[int, Any]) -> datetime | None:
    """Original, else digitised, else file time, aware where the offset is recorded."""
    for time_tag, offset_tag in _TIMES:
        taken = _parse_time(tags.get(time_tag))
        if taken is not None:
            return taken.replace(tzinfo=_parse_offset(tags.get(offset_tag)))
    return None


def _parse_time(value: object) -> datetime | None:
    pattern = r"\s*(\d{4})[:/.-](\d{1,2})[:/.-](\d{1,2})[ T]+(\d{1,2}):(\d{1,2}):(\d{1,2})"
    match = re.match(pattern, _as_text(value), re.ASCII)
    if match is None:
        return None
    with contextlib.suppress(ValueError):
        year, month, day, hour, minute, second = map(int, match.groups())
        taken = datetime(year, month, day, hour, minute, second)
        return taken if year >= 1800 else None  # before photography: an unset clock
    return None


def _parse_offset(value: object) -> timezone | None:
    text = _as_text(value).strip()
    if text == "Z":
        return UTC
    match = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", text, re.ASCII)
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | tuple[None, None]:
    """Latitude and longitude in degrees; 0, 0 is what receivers write without a fix."""
    latitude = _degrees(gps.get(2), gps.get(1), "NS", 90.0)
    longitude = _degrees(gps.get(4), gps.get(3), "EW", 180.0)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def _degrees(value: object, reference: object, signs: str, limit: float) -> float | None:
    """Degrees, minutes and seconds to signed degrees; None where any of it makes no sense."""
    letter = _as_text(reference).strip(" \0").upper()[:1]
    parts = value if isinstance(value, tuple) else (value,)
    if not letter or letter not in signs or not 1 <= len(parts) <= 3:
        return None
    degrees = 0.0
    for part, unit in zip(parts, (1, 60, 3600), strict=False):
        try:
            number = float(part)
        except (TypeError, ValueError, ArithmeticError):
            return None
        if not math.isfinite(number) or number < 0:
            return None
        degrees += number / unit
    if degrees > limit:
        return None
    return round(-degrees if letter == signs[1] else degrees, 7)


# Names of things


def _camera(tags: Mapping[int, Any]) -> str | None:
    """Make and model, without the make where the model begins with a word of it."""
    make, model = _name(tags.get(_MAKE)), _name(tags.get(_MODEL))
    if make is None or model is None:
        return model or make
    if model.split()[0].casefold() in make.casefold().split():
        return model
    return f"{make} {model}"


def _name(value: object) -> str | None:
    """A short text with at least one letter or digit, or None."""
    name = _tidy(_as_text(value))[:_MAX_NAME_CHARS].strip()
    return name if any(char.isalnum() for char in name) else None


# Captions


def _captions(image: Image.Image, tags: Mapping[int, Any]) -> tuple[EmbeddedCaption, ...]:
    """The texts that say something of the picture, each once (ignoring case), in file order."""
    endian = ""
    with contextlib.suppress(Exception):
        endian = image.getexif().endian or ""
    sources: tuple[tuple[str, Callable[[], Iterable[str]]], ...] = (
        ("exif", lambda: _exif_texts(tags, endian)),
        ("iptc", lambda: _iptc_texts(image, _IPTC_TITLE, _IPTC_HEADLINE, _IPTC_CAPTION)),
        ("xmp", lambda: _xmp_texts(image.info, *_XMP_FIELDS)),
    )
    found: dict[str, EmbeddedCaption] = {}
    for source, read in sources:
        with contextlib.suppress(Exception):
            for raw in read():
                text = _shorten(_tidy(raw[:_MAX_RAW_TEXT]))
                if not _is_junk(text):
                    found.setdefault(text.casefold(), EmbeddedCaption(source, text))
    return tuple(found.values())[:MAX_CAPTIONS]


def _exif_texts(tags: Mapping[int, Any], endian: str) -> Iterator[str]:
    yield _as_text(tags.get(_IMAGE_DESCRIPTION))
    yield _user_comment(_as_bytes(tags.get(_USER_COMMENT)), endian)
    for tag in (_XP_TITLE, _XP_SUBJECT, _XP_COMMENT):
        yield _windows_text(tags.get(tag))


def _windows_text(value: object) -> str:
    return _as_bytes(value).decode("utf-16-le", "replace").split("\0")[0]


def _user_comment(raw: bytes, endian: str) -> str:
    """Decode by the eight bytes of character code that stand before the text (EXIF 4.6.5)."""
    code, body = raw[:8].rstrip(b"\0 "), raw[8 : 8 + _MAX_RAW_TEXT]
    if code == b"UNICODE":
        return _utf16(body, endian)
    if code == b"JIS":
        return body.decode("iso2022_jp", "replace")
    if code in (b"ASCII", b""):
        return _utf8_or_latin1(body.rstrip(b"\0 "))
    # No code at all: some programs write the text alone.
    return _as_text(raw) if raw.isascii() else ""


def _utf16(raw: bytes, endian: str) -> str:
    """Decode UTF-16 whose byte order is often not the one that it should be, the file's."""
    raw = raw[: len(raw) // 2 * 2]
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    # Most texts hold spaces and Latin letters, whose high byte is zero.
    first, second = raw[0::2].count(0), raw[1::2].count(0)
    big = first > second if first != second else endian == ">"
    return raw.decode("utf-16-be" if big else "utf-16-le", "replace")


def _iptc_texts(image: Image.Image, *fields: tuple[int, int]) -> Iterator[str]:
    from PIL import ImageFile, IptcImagePlugin

    if not isinstance(image, ImageFile.ImageFile):
        return
    records = IptcImagePlugin.getiptcinfo(image) or {}
    for key in fields:
        value = records.get(key)
        for raw in value if isinstance(value, list) else [value]:
            if isinstance(raw, bytes):
                declared = records.get(_IPTC_CHARSET) == _IPTC_UTF8
                yield raw.decode("utf-8", "replace") if declared else _utf8_or_latin1(raw)


def _xmp_texts(info: Mapping[Any, Any], *fields: str) -> Iterator[str]:
    root = _parse_xmp(info.get("xmp") or info.get("XML:com.adobe.xmp"))
    if root is None:
        return
    for field in fields:
        for element in root.iter():
            # A simple value may stand as an attribute, one with languages as a list.
            if field in element.attrib:
                yield element.attrib[field]
            elif element.tag == field:
                items = sorted(
                    element.findall(f"*/{_RDF_LI}"),
                    key=lambda item: item.get(_XML_LANG) != "x-default",
                )
                yield from (item.text or "" for item in items)
                yield element.text or ""


def _parse_xmp(packet: object) -> ElementTree.Element | None:
    """Parse an XMP packet; one that declares entities (or is huge) is refused."""
    raw = packet.encode() if isinstance(packet, str) else _as_bytes(packet)
    if not raw or len(raw) > _MAX_XMP_BYTES:
        return None
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    for name in ("x:xmpmeta", "x:xapmeta", "rdf:RDF"):
        # Cut out, since writers pad the packet with what XML does not allow.
        start, end = text.find(f"<{name}"), text.rfind(f"</{name}>")
        if 0 <= start < end:
            return ElementTree.fromstring(text[start : end + len(name) + 3])
    return None


# Keywords


def _keywords(image: Image.Image, tags: Mapping[int, Any]) -> tuple[str, ...]:
    """The keywords that people gave the picture, each once (ignoring case), in file order."""
    sources: tuple[Callable[[], Iterable[str]], ...] = (
        lambda: _windows_text(tags.get(_XP_KEYWORDS)).split(";"),
        lambda: _iptc_texts(image, _IPTC_KEYWORDS),
        lambda: _xmp_texts(image.info, _XMP_KEYWORDS),
    )
    found: dict[str, str] = {}
    for read in sources:
        with contextlib.suppress(Exception):
            for raw in read():
                word = _tidy(raw[:_MAX_RAW_TEXT])[:_MAX_NAME_CHARS].strip()
                if any(char.isalnum() for char in word):
                    found.setdefault(word.casefold(), word)
    return tuple(found.values())[:MAX_KEYWORDS]


# Texts


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    if isinstance(value, tuple) and all(isinstance(byte, int) for byte in value):
        with contextlib.suppress(ValueError):
            return bytes(value)
    return b""


def _as_text(value: object) -> str:
    """A text field up to its first NUL; Pillow reads bytes as Latin-1, but most are UTF-8."""
    if isinstance(value, tuple) and value:
        value = value[0]
    if not isinstance(value, (str, bytes)):
        return ""
    raw = value[:_MAX_RAW_TEXT]
    if isinstance(raw, str):
        try:
            raw = raw.encode("latin-1")
        except UnicodeEncodeError:
            return str(raw).split("\0")[0]
    return _utf8_or_latin1(raw.split(b"\0")[0])


def _utf8_or_latin1(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _tidy(text: str) -> str:
    """NFC, one space for every run of blanks, no control characters, no lone surrogates."""
    # Cf holds joiners that scripts and emoji need, and it is harmless.
    kept = (
        " " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in text
        if not 0xD800 <= ord(char) <= 0xDFFF
    )
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _shorten(text: str) -> str:
    """Cut at a blank, where one is near."""
    if len(text) <= MAX_CAPTION_CHARS:
        return text
    cut = text[:MAX_CAPTION_CHARS]
    blank = cut.rfind(" ")
    return cut[:blank] if blank > MAX_CAPTION_CHARS // 2 else cut


# What cameras and programs write when nobody wrote anything.
_JUNK = re.compile(
    r"""
      (user|binary|image|no)?\s?(comments?|description) | asciicomment | caption | title | test
    | default | none | null | n/a | unknown | untitled | maker:unknown
    | (digital|jpeg|my)?\s?(image|photo|picture|camera|jpe?g) | exif_jpeg_picture | dcim | gimp
    | samsung\scsc | sony\sdsc | vivo | xiaomi
    | <[^<>]*>                                          # <KENOX S1050  / Samsung S1050>
    | (digimax|kenox)\b.*
    | (olympus|minolta|konica|kodak|nikon|canon|sony|samsung|ricoh|pentax|fujifilm|casio)
      [\s\w-]*\bdigital([\s\w-]*\bcamera)?
    # Huawei and Honor write the shooting mode: "oznorWO", "hdrpl", "cof_soft"
    | ((oz)?nor(wo|wos|cpcu)*|[fvrsbl]?d?hdr(pl)?|[fsv]?ptr|btf|burst|cof|dav|edf|fbt|ldr|mde|nrm
      |pano|ptfbt|qrf|rpt|sdr|soft)(_[a-z]+)?
    | [\[{]\s*["'\[{].*                                 # JSON
    | <\?xml.*
    | [!-~]{40,}                                        # base64, hashes; no sentence
    | (https?|ftp|file)://\S+
    | \S+\.(jpe?g|png|gif|tiff?|heic|webp|bmp|dng|cr2|nef|arw|psd)
    | (img|dsc[nf]?|pict|imgp|mvi|pxl|dcim|wp|gopr|sam|kif|hpim|cimg|p)
      [\s_-]*\d{3}[\d\s_~-]*(wa\d+)?                    # names that cameras give to files
    | (screenshot|scan|image|photo|picture|untitled)[\d\s_.:-]*
    | [\d\W_]*
    | (created|made|generated|produced|edited|processed|optimi[sz]ed|compressed|written|scanned)
      \s(with|by|using|in)\s.*(gimp|photoshop|lightroom|picasa|snapseed|canva|inkscape|blender
      |ffmpeg|imagemagick|ezgif|paint|software|studio|\d\.\d).*
    | adobe\s(photoshop|lightroom|illustrator|imageready|firefly).*
    | (gimp\s\d|lavc\d|creator:|software:|file\swritten\sby|lead\stechnologies|paint\.net
      |intel\(r\)\sjpeg|applemark|handmade\ssoftware|ulead|acd\ssystems).*
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def _is_junk(text: str) -> bool:
    """Whether a tidied text says nothing of the picture."""
    if not text or _JUNK.fullmatch(text):
        return True
    if text.isascii() and sum(map(str.isalpha, text)) < 3:
        return True
    odd = sum(char == "\ufffd" or unicodedata.category(char) in ("Cn", "Co") for char in text)
    return odd > len(text) // 10
