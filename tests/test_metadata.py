"""What a picture says of itself is read where it makes sense, and never breaks anything."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta, timezone

import piexif
import piexif.helper
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xsearch.core.images import decode, quiet_pillow
from xsearch.core.metadata import MAX_CAPTION_CHARS, MAX_KEYWORDS, read_metadata
from xsearch.core.values import ImageMetadata

pillow_heif.register_heif_opener()  # to write HEIC here

_ZEROTH, _EXIF, _GPS = piexif.ImageIFD, piexif.ExifIFD, piexif.GPSIFD


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_pillow():
        yield


def metadata(
    zeroth: dict | None = None,
    exif: dict | None = None,
    gps: dict | None = None,
    format: str = "JPEG",
    **options,
) -> ImageMetadata:
    """The metadata of a small picture written with these EXIF fields."""
    block = piexif.dump({"0th": zeroth or {}, "Exif": exif or {}, "GPS": gps or {}})
    return saved_metadata(format, exif=block, **options)


def saved_metadata(format: str = "JPEG", **options) -> ImageMetadata:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, format, **options)
    return decode(buffer).metadata


def captions(found: ImageMetadata) -> list[tuple[str, str]]:
    return [(caption.source, caption.text) for caption in found.captions]


def description(text: str | bytes) -> list[str]:
    """The captions found where a camera or a program wrote this description."""
    raw = text.encode() if isinstance(text, str) else text
    return [text for _, text in captions(metadata({_ZEROTH.ImageDescription: raw}))]


# Time


def test_the_original_time_comes_before_digitised_and_file_time():
    times = {_EXIF.DateTimeOriginal: b"2019:07:04 10:20:30"}
    later = {_EXIF.DateTimeDigitized: b"2020:01:01 00:00:00"}
    changed = {_ZEROTH.DateTime: b"2021:01:01 00:00:00"}
    assert metadata(changed, {**times, **later}).taken_at == datetime(2019, 7, 4, 10, 20, 30)
    assert metadata(changed, later).taken_at == datetime(2020, 1, 1)
    assert metadata(changed).taken_at == datetime(2021, 1, 1)


@pytest.mark.parametrize(
    ("offset", "zone"),
    [
        (b"+02:00", timezone(timedelta(hours=2))),
        (b"-07:30", timezone(-timedelta(hours=7, minutes=30))),
        (b"Z", UTC),
        (b"", None),
        (b"+99:00", None),
        (b"noon", None),
    ],
)
def test_a_recorded_offset_makes_the_time_aware(offset, zone):
    exif = {_EXIF.DateTimeOriginal: b"2019:07:04 10:20:30", _EXIF.OffsetTimeOriginal: offset}
    assert metadata(exif=exif).taken_at == datetime(2019, 7, 4, 10, 20, 30, tzinfo=zone)


def test_each_time_has_its_own_offset():
    exif = {_EXIF.DateTimeDigitized: b"2019:07:04 10:20:30", _EXIF.OffsetTimeOriginal: b"+02:00"}
    taken = metadata(exif=exif).taken_at
    assert taken is not None and taken.tzinfo is None


@pytest.mark.parametrize(
    "value",
    [
        *(b"0000:00:00 00:00:00", b"    :  :     :  :  ", b"2019:13:01 00:00:00", b"\xff"),
        *(b"2019:02:30 10:00:00", b"2019:01:01 24:00:00", b"0001:01:01 00:00:00", b"yesterday"),
    ],
)
def test_impossible_times_are_none(value):
    assert metadata(exif={_EXIF.DateTimeOriginal: value}).taken_at is None


def test_a_broken_original_time_gives_way_to_the_next():
    exif = {
        _EXIF.DateTimeOriginal: b"0000:00:00 00:00:00",
        _EXIF.DateTimeDigitized: b"2020:01:01 00:00:00",
    }
    assert metadata(exif=exif).taken_at == datetime(2020, 1, 1)


# Camera and lens


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("EASTMAN KODAK COMPANY", "KODAK DC290", "KODAK DC290"),
        ("Canon", "", "Canon"),
        ("", "EOS 5D", "EOS 5D"),
        (" Sony\0\0junk", "DSC-F828  \0", "Sony DSC-F828"),
        ("", "", None),
        ("---", "\n", None),
    ],
)
def test_the_camera_is_make_and_model_without_repetition(make, model, camera):
    found = metadata({_ZEROTH.Make: make.encode(), _ZEROTH.Model: model.encode()})
    assert found.camera == camera


def test_the_lens_is_named():
    assert metadata(exif={_EXIF.LensModel: b"EF24-70mm f/2.8L"}).lens == "EF24-70mm f/2.8L"
    assert metadata(exif={_EXIF.LensModel: b"----"}).lens is None


# Place


def degrees(d: int, m: int, s: int) -> tuple:
    return ((d, 1), (m, 1), (s, 100))


def place(latitude: tuple, north: bytes, longitude: tuple, east: bytes):
    gps = {
        _GPS.GPSLatitude: latitude,
        _GPS.GPSLatitudeRef: north,
        _GPS.GPSLongitude: longitude,
        _GPS.GPSLongitudeRef: east,
    }
    found = metadata(gps=gps)
    return found.latitude, found.longitude


@pytest.mark.parametrize("north", [b"N", b"S"])
@pytest.mark.parametrize("east", [b"E", b"W"])
def test_degrees_are_signed_by_their_reference(north, east):
    latitude, longitude = place(degrees(48, 51, 2952), north, degrees(2, 17, 4020), east)
    assert latitude == pytest.approx(48.8582 if north == b"N" else -48.8582, abs=1e-6)
    assert longitude == pytest.approx(2.2945 if east == b"E" else -2.2945, abs=1e-6)


@pytest.mark.parametrize(
    ("latitude", "north"),
    [
        (((48, 0), (51, 1), (0, 1)), b"N"),
        (((0, 0), (0, 0), (0, 0)), b"N"),
        (((91, 1), (0, 1), (0, 1)), b"N"),
        (((48, 1), (51, 1), (0, 1)), b"X"),
        (((48, 1), (51, 1), (0, 1)), b""),
    ],
)
def test_places_that_make_no_sense_are_none(latitude, north):
    assert place(latitude, north, degrees(2, 17, 0), b"E") == (None, None)


def test_a_receiver_without_a_fix_is_nowhere():
    assert place(degrees(0, 0, 0), b"N", degrees(0, 0, 0), b"E") == (None, None)


# Captions


def test_exif_texts_are_captions():
    exif = {_EXIF.UserComment: piexif.helper.UserComment.dump("a brown dog", "unicode")}
    zeroth = {
        _ZEROTH.ImageDescription: b"two boats",
        _ZEROTH.XPTitle: "Häuser am See\0".encode("utf-16-le"),
        _ZEROTH.XPSubject: "湖".encode("utf-16-le"),
        _ZEROTH.XPComment: "red roofs".encode("utf-16-le"),
    }
    expected = ["two boats", "a brown dog", "Häuser am See", "湖", "red roofs"]
    assert captions(metadata(zeroth, exif)) == [("exif", text) for text in expected]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"ASCII\0\0\0a brown dog\0\0", "a brown dog"),
        (b"\0\0\0\0\0\0\0\0" + "ein Höhenweg".encode(), "ein Höhenweg"),
        (b"\0\0\0\0\0\0\0\0" + "ein Höhenweg".encode("latin-1"), "ein Höhenweg"),
        (b"UNICODE\0" + "brown dog".encode("utf-16-be"), "brown dog"),
        (b"UNICODE\0" + "brown dog".encode("utf-16-le"), "brown dog"),
        (b"UNICODE\0" + "brown dog".encode("utf-16"), "brown dog"),
        (b"UNICODE\0" + "棕色的狗在草地上".encode("utf-16-be"), "棕色的狗在草地上"),
        (b"JIS\0\0\0\0\0" + "茶色の犬".encode("iso2022_jp"), "茶色の犬"),
        (b"just a brown dog", "just a brown dog"),
    ],
)
def test_user_comments_are_read_in_every_character_code(raw, text):
    assert captions(metadata(exif={_EXIF.UserComment: raw})) == [("exif", text)]


def test_descriptions_in_utf8_and_latin1_are_both_read():
    assert description("Café à Orléans") == ["Café à Orléans"]
    assert description("Café à Orléans".encode("latin-1")) == ["Café à Orléans"]


def iptc(*records: tuple[int, int, bytes]) -> bytes:
    """A Photoshop segment with these IPTC records."""
    body = b"".join(struct.pack(">BBBH", 0x1C, a, b, len(v)) + v for a, b, v in records)
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"Photoshop 3.0\0" + block


def with_segment(body: bytes) -> ImageMetadata:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "JPEG")
    raw = buffer.getvalue()
    segment = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    return decode(io.BytesIO(raw[:2] + segment + raw[2:])).metadata


def test_iptc_texts_are_captions():
    records = iptc(
        (2, 5, b"Harbour at dusk"), (2, 105, b"Boats"), (2, 120, "Les quais, été".encode("latin-1"))
    )
    expected = ["Harbour at dusk", "Boats", "Les quais, été"]
    assert captions(with_segment(records)) == [("iptc", text) for text in expected]


def test_iptc_in_utf8_is_read_as_it_says():
    records = iptc((1, 90, b"\x1b%G"), (2, 120, "渔船 — été".encode()))
    assert captions(with_segment(records)) == [("iptc", "渔船 — été")]


def xmp(body: str, attributes: str = "") -> bytes:
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/">
<rdf:Description rdf:about="" {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


_XMP = xmp(
    """<dc:description><rdf:Alt><rdf:li xml:lang="de">Ein Hund im Schnee</rdf:li>
    <rdf:li xml:lang="x-default">A dog in the snow</rdf:li></rdf:Alt></dc:description>
    <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Winter</rdf:li></rdf:Alt></dc:title>
    <Iptc4xmpCore:AltTextAccessibility><rdf:Alt><rdf:li xml:lang="x-default">A husky
    runs</rdf:li></rdf:Alt></Iptc4xmpCore:AltTextAccessibility>""",
    'photoshop:Headline="Sledge race"',
)
_XMP_TEXTS = ["Winter", "Sledge race", "A dog in the snow", "Ein Hund im Schnee", "A husky runs"]


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF", "PNG", "HEIF", "AVIF"])
def test_xmp_texts_of_all_languages_are_captions_the_default_first(format):
    options: dict = {"tiffinfo": {700: _XMP}} if format == "TIFF" else {"xmp": _XMP}
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", _XMP.decode())
    assert captions(saved_metadata(format, **options)) == [("xmp", text) for text in _XMP_TEXTS]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<x:xmpmeta",
        b"<x:xmpmeta></x:xmpmeta><rdf:RDF>",
        _XMP.replace(b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY a "dog">]><x:xmpmeta', 1),
        xmp("<dc:title>&bomb;</dc:title>"),
        xmp("<dc:title>a dog" + "." * 2_000_000 + "</dc:title>"),
        _XMP[: len(_XMP) // 2],
    ],
)
def test_broken_huge_or_dangerous_xmp_is_ignored(packet):
    found = saved_metadata("WEBP", xmp=packet)
    assert captions(found) == [] and found.width == 20


def test_keywords_are_read_from_exif_iptc_and_xmp_and_are_no_captions():
    exif = {_ZEROTH.XPKeywords: "Boot; Häuser am See ;;boot;---\0".encode("utf-16-le")}
    found = metadata(exif)
    assert found.keywords == ("Boot", "Häuser am See") and found.captions == ()
    found = with_segment(iptc((1, 90, b"\x1b%G"), (2, 25, "渔船".encode()), (2, 25, b"harbour")))
    assert found.keywords == ("渔船", "harbour") and found.captions == ()
    assert with_segment(iptc((2, 25, "été".encode("latin-1")))).keywords == ("été",)
    bag = "<dc:subject><rdf:Bag><rdf:li>dog</rdf:li> <rdf:li>DOG</rdf:li><rdf:li>snow</rdf:li>"
    found = saved_metadata("WEBP", xmp=xmp(f"{bag}</rdf:Bag></dc:subject>"))
    assert found.keywords == ("dog", "snow") and found.captions == ()


def test_only_so_many_keywords_are_kept():
    words = ";".join(f"word {number}" for number in range(1_000))
    assert len(metadata({_ZEROTH.XPKeywords: words.encode("utf-16-le")}).keywords) == MAX_KEYWORDS


def test_the_same_text_is_kept_once():
    zeroth = {_ZEROTH.ImageDescription: b"a DOG in the  snow"}
    found = captions(metadata(zeroth, xmp=_XMP))
    assert [text for _, text in found].count("A dog in the snow") == 0
    assert found[0] == ("exif", "a DOG in the snow") and len(found) == len(_XMP_TEXTS)


@pytest.mark.parametrize(
    "text",
    [
        *("OLYMPUS DIGITAL CAMERA", "SONY DSC", "DCIM", "Exif_JPEG_PICTURE", "SAMSUNG CSC"),
        *("<KENOX S1050  / Samsung S1050>", "<Digimax S600 / Kenox S600 / Digimax Cyber 630>"),
        *("dav", "mde", "oznor", "oznorWO", "cof", "rhdr", "hdrpl", "cof_soft", "fptr", "sdr"),
        *("MINOLTA DIGITAL CAMERA", "KONICA MINOLTA DIGITAL CAMERA", "default", "untitled"),
        *("DSC_1234", "IMG_20200101_101010", "IMG-20200101-WA0003", "P1010023", "photo.JPG"),
        *("Created with GIMP", "Created by Adobe Photoshop", "Screenshot", "12345", "...", "ok"),
        *('{"prompt": "a dog"}', "[{'a': 1}]", "https://example.org/a", "aGVsbG8gd29ybGQ" * 4),
        *("", "   ", "\x01\x02\x03", "image description", "LEAD Technologies Inc. V1.01"),
        "Optimized by JPEGmini 3.14.2.84235 0x6d27c47b",
    ],
)
def test_what_cameras_and_programs_write_is_no_caption(text):
    assert description(text) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "cat",
            "Made by my daughter at school",
            "Adobe house in Santa Fe",
            "P-51 at the air show",
        ),
        *("猫", "小狗在雪地里奔跑" * 6, "Кот", "My photo of a red barn", "Test drive", "2 dogs"),
        *("Canon from the civil war", "Nikon museum in Tokyo", "Pano of the valley", "[1] a bear"),
        *("Generated by nature", "Screenshot of the weather map", "Image 5 of the triptych: hell"),
    ],
)
def test_what_people_write_is_a_caption(text):
    assert description(text) == [text]


def test_long_captions_are_cut_at_a_word():
    (text,) = description("a brown dog " * 1000)
    assert len(text) <= MAX_CAPTION_CHARS and text.endswith(("brown", "dog", " a"))


def test_control_characters_and_blanks_are_tidied():
    assert description("a\tbrown\r\n\x07 dog \x1b[0m") == ["a brown dog [0m"]
    assert description("a brown dog\0\xff\xff") == ["a brown dog"]


def test_lone_surrogates_are_dropped():
    image = Image.new("RGB", (3, 2))
    image.getexif()[_ZEROTH.ImageDescription] = "a brown \ud800dog"
    assert captions(read_metadata(image, (3, 2))) == [("exif", "a brown dog")]


# Nothing breaks


def test_pixels_never_suffer_from_broken_exif():
    for body in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        found = saved_metadata("JPEG", exif=body)
        assert found == ImageMetadata(20, 10, "JPEG")


def test_a_broken_field_costs_no_other():
    exif = {_EXIF.DateTimeOriginal: b"2019:07:04 10:20:30", _EXIF.UserComment: b"UNICODE\0\xd8"}
    found = metadata({_ZEROTH.Make: b"\xff\xfe\0"}, exif, {_GPS.GPSLatitude: ((1, 0),) * 3})
    assert found.taken_at == datetime(2019, 7, 4, 10, 20, 30)


def check(found: ImageMetadata) -> None:
    texts = [found.camera, found.lens, *(caption.text for caption in found.captions)]
    texts += found.keywords
    for text in filter(None, texts):
        text.encode()  # no lone surrogates
        assert text == " ".join(text.split()) and "\0" not in text
    assert found.latitude is None or -90 <= found.latitude <= 90
    assert found.longitude is None or -180 <= found.longitude <= 180
    assert 1 <= found.orientation <= 8


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_arbitrary_exif_never_raises(body, head):
    image = Image.new("RGB", (3, 2))
    image.info["exif"] = b"Exif\0\0" + head + body
    check(read_metadata(image, (3, 2)))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_damaged_exif_never_raises(place, junk):
    block = bytearray(_FULL)
    place %= len(block)
    block[place : place + len(junk)] = junk
    image = Image.new("RGB", (3, 2))
    image.info["exif"] = bytes(block)
    check(read_metadata(image, (3, 2)))


_FULL = piexif.dump(
    {
        "0th": {
            _ZEROTH.Make: b"Canon",
            _ZEROTH.Model: b"EOS",
            _ZEROTH.Orientation: 6,
            _ZEROTH.ImageDescription: b"two boats",
            _ZEROTH.XPTitle: "Boats".encode("utf-16-le"),
        },
        "Exif": {
            _EXIF.DateTimeOriginal: b"2019:07:04 10:20:30",
            _EXIF.OffsetTimeOriginal: b"+02:00",
            _EXIF.UserComment: piexif.helper.UserComment.dump("a brown dog", "unicode"),
            _EXIF.LensModel: b"EF24-70mm",
        },
        "GPS": {
            _GPS.GPSLatitude: degrees(48, 51, 2952),
            _GPS.GPSLatitudeRef: b"N",
            _GPS.GPSLongitude: degrees(2, 17, 4020),
            _GPS.GPSLongitudeRef: b"E",
        },
    }
)


def test_the_whole_block_is_read_when_it_is_sound():
    image = Image.new("RGB", (3, 2))
    image.info["exif"] = _FULL
    found = read_metadata(image, (2, 3))
    assert found.camera == "Canon EOS" and found.lens == "EF24-70mm" and found.orientation == 6
    assert found.latitude == pytest.approx(48.8582) and found.taken_at is not None
    assert [text for _, text in captions(found)] == ["two boats", "a brown dog", "Boats"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_arbitrary_xmp_never_raises(packet):
    image = Image.new("RGB", (3, 2))
    image.info["xmp"] = packet
    check(read_metadata(image, (3, 2)))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=100))
def test_any_text_in_xmp_comes_out_clean(text):
    image = Image.new("RGB", (3, 2))
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    image.info["xmp"] = xmp("<dc:title>@</dc:title>").decode().replace("@", escaped)
    check(read_metadata(image, (3, 2)))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_exif_is_read_from_every_format_that_holds_it(format):
    exif = {_EXIF.DateTimeOriginal: b"2019:07:04 10:20:30"}
    found = metadata({_ZEROTH.Model: b"EOS 5D"}, exif, format=format)
    assert found.camera == "EOS 5D" and found.taken_at == datetime(2019, 7, 4, 10, 20, 30)
