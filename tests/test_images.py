"""Pictures are decoded upright, whole and in RGB, or refused with one plain reason."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import piexif
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from skimage import data as samples

from xsearch.core.errors import ImageError
from xsearch.core.formats import IMAGE_SUFFIXES, is_image_name
from xsearch.core.images import decode, quiet_pillow
from xsearch.core.perceptual import hamming, perceptual_hash

pillow_heif.register_heif_opener()  # to write HEIC here

_ROOT = Path(__file__).resolve().parents[1]
_DATA = Path(os.environ.get("XSEARCH_TEST_DATA", _ROOT.parent / "shared" / "data"))
_MESSY = _DATA / "messy"

needs_messy = pytest.mark.skipif(
    not _MESSY.is_dir(), reason=f"no test data at {_MESSY} (set XSEARCH_TEST_DATA)"
)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """451 x 300, so that width and height cannot be confused."""
    return Image.fromarray(samples.chelsea())


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_pillow():
        yield


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode_bytes(raw: bytes, **options):
    return decode(io.BytesIO(raw), **options)


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference of two pictures of one size, in grey levels."""
    assert first.size == second.size
    return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).mean())


def refusal(raw: bytes, **options) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_bytes(raw, **options)
    return caught.value


def messy_rows():
    if not _MESSY.is_dir():
        return []
    return [json.loads(line) for line in (_MESSY / "manifest.jsonl").open()]


# Names


def test_image_names_are_known_by_suffix_in_any_case():
    assert is_image_name("a.JPG") and is_image_name("b.tar.heic") and is_image_name("c.Jp2")
    assert not is_image_name("jpg") and not is_image_name("a.jpg.txt") and not is_image_name("a.py")


def heavy_modules_after(code: str) -> list[str]:
    """Which of Pillow, numpy and pillow-heif a fresh process has loaded after running this."""
    code += "\nimport sys\n"
    code += "print(*(m for m in ('PIL', 'numpy', 'pillow_heif') if m in sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_telling_names_apart_loads_neither_pillow_nor_numpy():
    code = "from xsearch.core.formats import is_image_name; is_image_name('a.jpg')"
    assert heavy_modules_after(code) == []


def test_pillow_heif_is_loaded_for_the_files_that_need_it(tmp_path, photo):
    photo.save(tmp_path / "a.jpg")
    photo.save(tmp_path / "b.jpg", "HEIF")
    code = "from pathlib import Path; from xsearch.core.images import decode; decode(Path({!r}))"
    assert heavy_modules_after(code.format(str(tmp_path / "a.jpg"))) == ["PIL"]
    assert "pillow_heif" in heavy_modules_after(code.format(str(tmp_path / "b.jpg")))


@pytest.mark.parametrize(
    ("suffix", "format"),
    [
        *[(suffix, "JPEG") for suffix in (".jpg", ".jpeg", ".jpe", ".jfif")],
        *[(suffix, "JPEG2000") for suffix in (".jp2", ".j2k", ".jpx", ".jpf", ".j2c")],
        *[(suffix, "HEIF") for suffix in (".heic", ".heif", ".hif")],
        *[(suffix, "PPM") for suffix in (".ppm", ".pnm")],
        *[(suffix, "TIFF") for suffix in (".tif", ".tiff")],
        *[(suffix, "TGA") for suffix in (".tga", ".icb", ".vda", ".vst")],
        *[(suffix, "SGI") for suffix in (".sgi", ".rgb")],
        *[(".png", "PNG"), (".apng", "PNG"), (".gif", "GIF"), (".webp", "WEBP"), (".bmp", "BMP")],
        *[(".dib", "DIB"), (".avif", "AVIF"), (".pcx", "PCX"), (".mpo", "MPO"), (".dds", "DDS")],
    ],
)
def test_every_listed_format_that_pillow_writes_is_read(tmp_path, photo, suffix, format):
    path = tmp_path / f"picture{suffix}"
    photo.save(path, format, **({"save_all": True} if format == "MPO" else {}))
    assert suffix in IMAGE_SUFFIXES
    decoded = decode(path)
    # A Multi-Picture file of a single picture is a plain JPEG.
    assert decoded.metadata.format in (format, "JPEG" if format == "MPO" else format)
    assert decoded.image.size == photo.size
    assert difference(decoded.image, photo) < (12 if format == "GIF" else 6)


def test_the_largest_picture_of_an_icon_is_taken(photo):
    square = photo.crop((0, 0, 256, 256))
    assert decode_bytes(encoded(square, "ICO", sizes=[(16, 16), (256, 256)])).image.size == (
        256,
        256,
    )
    assert decode_bytes(encoded(square.resize((512, 512)), "ICNS")).image.width >= 512


def test_a_lying_suffix_does_not_matter(tmp_path, photo):
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(photo, "PNG"))
    assert decode(path).metadata.format == "PNG"


def test_formats_that_run_other_programs_are_not_opened(tmp_path, photo):
    path = tmp_path / "postscript.jpg"
    photo.save(path, "EPS")
    with pytest.raises(ImageError, match="not a picture in a known format"):
        decode(path)


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("min_side", [None, 100])
def test_each_exif_orientation_is_decoded_upright(photo, orientation, min_side):
    stored = stored_turned(photo, orientation)
    exif = piexif.dump({"0th": {piexif.ImageIFD.Orientation: orientation}})
    decoded = decode_bytes(encoded(stored, "JPEG", quality=95, exif=exif), min_side=min_side)
    assert decoded.metadata.orientation == orientation
    assert (decoded.metadata.width, decoded.metadata.height) == photo.size
    assert difference(decoded.image, photo.resize(decoded.image.size)) < 6


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", [6, 7])
def test_the_orientation_is_applied_exactly_once_in_every_format(photo, format, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    raw = encoded(stored_turned(photo, orientation), format, exif=exif.tobytes())
    decoded = decode_bytes(raw)
    assert decoded.metadata.orientation == orientation
    assert (decoded.metadata.width, decoded.metadata.height) == decoded.image.size
    assert difference(decoded.image, photo) < 6


def test_orientation_behind_the_pixels_of_a_png_is_found(photo):
    exif = piexif.dump({"0th": {piexif.ImageIFD.Orientation: 6}})[6:]
    raw = encoded(stored_turned(photo, 6), "PNG")
    late = raw[:-12] + png_chunk(b"eXIf", exif) + raw[-12:]
    assert difference(decode_bytes(late).image, photo) == 0


def test_the_decoded_picture_cannot_be_turned_a_second_time(photo):
    from PIL import ImageOps

    exif = piexif.dump({"0th": {piexif.ImageIFD.Orientation: 6}})
    image = decode_bytes(encoded(photo, "JPEG", exif=exif)).image
    assert ImageOps.exif_transpose(image).size == image.size


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_impossible_orientations_count_as_none(photo, value):
    exif = piexif.dump({"0th": {piexif.ImageIFD.Orientation: value}})
    decoded = decode_bytes(encoded(photo, "JPEG", exif=exif))
    assert decoded.metadata.orientation == 1 and decoded.image.size == photo.size


def stored_turned(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels as a file with that EXIF orientation holds them."""
    turns = Image.Transpose
    inverse = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    return image.transpose(inverse[orientation]) if orientation != 1 else image


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# Reduced decoding


@pytest.mark.parametrize(
    ("side", "min_side", "expected"),
    [
        *[(99, 100, 99), (100, 100, 100), (199, 100, 199), (200, 100, 100), (201, 100, 101)],
        *[(399, 100, 200), (400, 100, 100), (401, 100, 101), (799, 100, 200), (800, 100, 100)],
        *[(807, 100, 101), (1599, 100, 200), (1600, 100, 200), (400, None, 400)],
    ],
)
@pytest.mark.parametrize("landscape", [True, False])
def test_jpeg_is_drafted_to_the_smallest_scale_that_covers(side, min_side, expected, landscape):
    size = (2 * side, side) if landscape else (side, 2 * side)
    decoded = decode_bytes(encoded(Image.new("L", size), "JPEG"), min_side=min_side)
    assert min(decoded.image.size) == expected
    assert (decoded.metadata.width, decoded.metadata.height) == size


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 700), height=st.integers(1, 700), side=st.integers(1, 300), draft=...)
def test_reduction_never_goes_below_what_is_wanted(
    format: str, width: int, height: int, side: int, draft: bool
):
    raw = encoded(Image.new("L", (width, height), 77), format)
    decoded = decode_bytes(raw, min_side=side, draft=draft)
    assert min(decoded.image.size) >= min(side, width, height)
    assert (decoded.metadata.width, decoded.metadata.height) == (width, height)


def test_reduction_makes_large_pictures_small_in_every_format():
    for format in ("JPEG", "PNG"):
        raw = encoded(Image.new("RGB", (4000, 3000)), format)
        assert min(decode_bytes(raw, min_side=100).image.size) < 400


def test_a_reduced_picture_looks_as_the_full_one_resized(photo):
    large = photo.resize((1804, 1200), Image.Resampling.LANCZOS)
    for format in ("JPEG", "PNG"):
        raw = encoded(large, format)
        full = decode_bytes(raw).image.resize((256, 256), Image.Resampling.BICUBIC)
        reduced = decode_bytes(raw, min_side=256).image
        assert difference(reduced.resize((256, 256), Image.Resampling.BICUBIC), full) < 2


def test_without_draft_every_pixel_of_a_jpeg_is_decoded(photo):
    raw = encoded(photo, "JPEG")
    assert decode_bytes(raw, min_side=150).image.size != photo.size
    assert decode_bytes(raw, min_side=151, draft=False).image.size == photo.size


# Modes


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_a_16_bit_ramp_keeps_its_order_and_span(format):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    grey = np.asarray(decode_bytes(encoded(Image.fromarray(ramp), format)).image)[0, :, 0]
    assert grey.tolist() == list(range(256))


def test_a_16_bit_ramp_in_big_endian_tiff_is_the_same(tmp_path):
    import tifffile

    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, ramp, byteorder=">", photometric="minisblack")
    assert np.asarray(decode(path).image)[0, :, 0].tolist() == list(range(256))


def test_12_bits_in_16_are_not_nearly_black():
    ramp = np.tile(np.linspace(0, 4095, 256).astype(np.uint16), (4, 1))
    grey = np.asarray(decode_bytes(encoded(Image.fromarray(ramp), "TIFF")).image)[0, :, 0]
    assert grey[0] == 0 and grey[-1] == 255 and (np.diff(grey.astype(int)) >= 0).all()


def test_32_bit_integers_are_stretched():
    ramp = np.tile(np.linspace(-(2**30), 2**30, 256).astype(np.int32), (4, 1))
    grey = np.asarray(decode_bytes(encoded(Image.fromarray(ramp), "TIFF")).image)[0, :, 0]
    assert grey.tolist() == list(range(256))


def test_floats_are_stretched_whatever_stands_among_them():
    ramp = np.tile(np.linspace(-3, 7, 256).astype(np.float32), (4, 1))
    ramp[1, 0], ramp[2, 0], ramp[3, 0] = np.nan, np.inf, -np.inf
    grey = np.asarray(decode_bytes(encoded(Image.fromarray(ramp), "TIFF")).image)[:, :, 0]
    assert grey[0].tolist() == list(range(256))
    assert grey[1:, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_a_flat_float_picture_decodes(value):
    flat = Image.fromarray(np.full((5, 5), value, np.float32))
    assert decode_bytes(encoded(flat, "TIFF")).image.getextrema() is not None


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(format):
    red = Image.new("RGB", (32, 32), (220, 30, 40)).convert("CMYK")
    pixel = decode_bytes(encoded(red, format)).image.getpixel((16, 16))
    assert np.abs(np.subtract(pixel, (220, 30, 40))).max() < 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "LAB", "CMYK", "RGBA", "LA"])
def test_every_mode_becomes_rgb_and_looks_the_same(photo, mode):
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB")
    else:
        stored = photo.convert(mode)
    decoded = decode_bytes(encoded(stored, "TIFF" if mode in ("YCbCr", "LAB", "CMYK") else "PNG"))
    assert decoded.image.mode == "RGB"
    expected = photo.convert("L").convert("RGB") if mode in ("L", "LA") else photo
    small = decoded.image.resize((20, 20), Image.Resampling.BOX)
    expected = expected.resize((20, 20), Image.Resampling.BOX)
    limit = 30 if mode == "1" else 6
    assert difference(small, expected) < limit


def test_transparent_is_white_and_black_glyphs_stay_visible():
    logo = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    logo.paste((0, 0, 0, 255), (10, 5, 20, 15))
    logo.paste((255, 0, 0, 128), (30, 5, 35, 15))
    for raw in (encoded(logo, "PNG"), encoded(logo, "WEBP", lossless=True)):
        image = decode_bytes(raw).image
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((15, 10)) == (0, 0, 0)
        assert np.abs(np.subtract(image.getpixel((32, 10)), (255, 127, 127))).max() <= 1


def test_a_grey_picture_with_alpha_lies_over_white():
    grey = Image.new("LA", (8, 8), (100, 0))
    grey.putpixel((4, 4), (100, 255))
    image = decode_bytes(encoded(grey, "PNG")).image
    assert image.getpixel((0, 0)) == (255, 255, 255) and image.getpixel((4, 4)) == (100, 100, 100)


def test_palette_transparency_is_white_too():
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([0, 0, 0, 0, 0, 255])
    picture.putpixel((3, 3), 1)
    for format in ("PNG", "GIF"):
        image = decode_bytes(encoded(picture, format, transparency=0)).image
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((3, 3)) == (0, 0, 255)
        opaque = decode_bytes(encoded(picture, format)).image
        assert opaque.getpixel((0, 0)) == (0, 0, 0)


def test_an_alpha_channel_that_nobody_filled_is_ignored(photo):
    unused = photo.copy()
    unused.putalpha(0)
    assert difference(decode_bytes(encoded(unused, "PNG")).image, photo) == 0


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_taken(format):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    first, *others = (Image.new("RGB", (32, 32), colour) for colour in colours)
    raw = encoded(first, format, save_all=True, append_images=others)
    pixel = decode_bytes(raw).image.getpixel((16, 16))
    assert np.abs(np.subtract(pixel, colours[0])).max() < 8


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (5000, 3)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP"])
def test_tiny_and_extreme_pictures_decode(size, format):
    decoded = decode_bytes(encoded(Image.new("L", size), format), min_side=260)
    assert decoded.image.size == size


# Refusals


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("min_side", [None, 64])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_jpeg_is_refused(photo, progressive, min_side, part):
    raw = encoded(photo, "JPEG", progressive=progressive)
    assert refusal(raw[: int(len(raw) * part)], min_side=min_side).code == "decode"


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF", "PPM"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.98])
def test_a_truncated_file_of_another_format_is_refused(photo, format, part):
    raw = encoded(photo, format)
    assert refusal(raw[: int(len(raw) * part)]).code == "decode"


def test_truncation_is_said_in_plain_words(photo):
    raw = encoded(photo, "JPEG")
    assert str(refusal(raw[: len(raw) // 2])) == "the file is truncated"


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_program_that_loads_half_pictures_gets_none_here(monkeypatch, photo, format):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    raw = encoded(photo, format)
    assert refusal(raw[: len(raw) // 2]).code == "decode"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_an_empty_file_says_so(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(ImageError, match="the file is empty"):
        decode(path)


@pytest.mark.parametrize("raw", [b"P", b"just some text", b"<svg></svg>", b"\xff\xd8", b"\x89PNG"])
def test_what_is_no_picture_is_refused(raw):
    assert refusal(raw).code == "decode"


def test_text_is_not_a_picture_in_a_known_format():
    assert str(refusal(b"just some text, rather long")) == "not a picture in a known format"


def test_a_damaged_icon_is_not_taken_for_a_targa():
    # TGA has no signature, and the header of this icon of no pictures would do for one.
    raw = b"\0\0\1\0\0\0" + bytes(6) + struct.pack("<HHBB", 32, 16, 8, 0) + bytes(600)
    assert str(refusal(raw)) == "the file is damaged"  # and no word of TGA modes


def test_a_missing_file_is_unreadable_and_the_message_names_no_path(tmp_path):
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "gone.jpg")
    assert caught.value.code == "unreadable"
    assert "gone" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_folder_is_unreadable(tmp_path):
    with pytest.raises(ImageError) as caught:
        decode(tmp_path)
    assert caught.value.code == "unreadable"


class FailingDisk(io.BytesIO):
    def read(self, size=-1, /):
        if self.tell() > 2000:
            raise OSError(5, "Input/output error")
        return super().read(min(size, 1000) if size > 0 else size)


def test_a_failing_disk_is_unreadable_not_a_broken_picture(photo):
    with pytest.raises(ImageError) as caught:
        decode(FailingDisk(encoded(photo, "JPEG")))
    assert caught.value.code == "unreadable"
    assert isinstance(caught.value.__cause__, OSError)


def test_an_interrupt_passes():
    class Interrupted(io.BytesIO):
        def read(self, size=-1, /):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(Interrupted(b"x"))


def huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_before_pixels_are_decoded(monkeypatch):
    def never(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    error = refusal(huge_png(100_000, 50_000))
    assert error.code == "too-large"
    assert str(error) == "5,000 megapixels, over the limit of 200 (--max-pixels)"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "MPO"])
@pytest.mark.parametrize("pillow_limit", [100, 300, None])
def test_the_limit_is_ours_and_not_pillows(monkeypatch, photo, format, pillow_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    options = {"save_all": True, "append_images": [photo]} if format == "MPO" else {}
    raw = encoded(photo, format, **options)
    pixels = photo.width * photo.height
    assert decode_bytes(raw, max_pixels=pixels).image.size == photo.size
    assert refusal(raw, max_pixels=pixels - 1).code == "too-large"
    assert pillow_limit == Image.MAX_IMAGE_PIXELS


def test_warnings_made_errors_do_not_change_the_limit(monkeypatch, photo):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", photo.width * photo.height - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_bytes(encoded(photo, "TIFF")).image.size == photo.size


# The file, the process, the threads


def test_the_file_is_left_as_it_was_and_closed(tmp_path, photo):
    path = tmp_path / "kept.jpg"
    photo.save(path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = decode(path).image
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    path.unlink()
    assert image.getpixel((5, 5)) is not None and type(image) is Image.Image


def test_the_callers_file_stays_open_and_is_read_from_its_start(photo):
    file = io.BytesIO(encoded(photo, "JPEG"))
    file.seek(100)
    assert decode(file).image.size == photo.size
    assert not file.closed


def test_a_stream_that_cannot_seek_is_read(photo):
    class Stream(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *where):
            raise io.UnsupportedOperation

    assert decode(Stream(encoded(photo, "PNG"))).image.size == photo.size


def test_many_threads_decode_the_same_and_leave_pillow_as_it_was(monkeypatch, photo):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    formats = ["JPEG", "PNG", "TIFF", "WEBP", "HEIF", "GIF"]
    raws = [encoded(photo, format) for format in formats]
    alone = [decode_bytes(raw).image.tobytes() for raw in raws]
    half = raws[0][: len(raws[0]) // 2]

    def work(number: int) -> bool:
        if number % 7 == 6:
            return refusal(half).code == "decode"
        which = number % 6
        return decode_bytes(raws[which]).image.tobytes() == alone[which]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert Image.MAX_IMAGE_PIXELS == 1000 and ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_quiet_pillow_silences_pillow_alone(capsys):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet_pillow():
            warnings.warn_explicit("odd tag", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
            warnings.warn_explicit("our own", UserWarning, "x.py", 1, module="xsearch.indexer")
        warnings.warn_explicit("after", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
    assert [str(warning.message) for warning in seen] == ["our own", "after"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_an_image_error(raw):
    decode_or_refuse(raw)


_HEADS = [
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*"),
    *(b"RIFF\0\0\0\0WEBPVP8 ", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"8BPS\0\1", b"\0\0\1\0\1\0", b"icns", b"P6 "),
    *(b"qoif", b"DDS ", b"\1\xda", b"\n\5\1\10"),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_HEADS), st.binary(max_size=300))
def test_arbitrary_bytes_behind_a_known_signature_do_neither(head, rest):
    decode_or_refuse(head + rest)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "AVIF"])
def test_damaged_pictures_raise_nothing_but_an_image_error(photo, format):
    raw = encoded(photo.resize((60, 40)), format)
    rng = random.Random(format)
    for _ in range(60):
        damaged = bytearray(raw)
        for _ in range(rng.randint(1, 10)):
            damaged[rng.randrange(len(raw))] = rng.randrange(256)
        decode_or_refuse(bytes(damaged))


def decode_or_refuse(raw: bytes) -> None:
    try:
        image = decode_bytes(raw, max_pixels=1_000_000).image
    except ImageError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert image.mode == "RGB"


# Real awkward files


@needs_messy
@pytest.mark.parametrize("row", messy_rows(), ids=lambda row: row["file"])
@pytest.mark.parametrize("min_side", [None, 260])
def test_awkward_files_decode_or_fail_as_expected(row, min_side):
    path = _MESSY / row["file"]
    if row["pillow_error"] is not None:
        with pytest.raises(ImageError) as caught:
            decode(path, min_side=min_side)
        assert caught.value.code == ("too-large" if row["category"] == "bomb" else "decode")
        return
    decoded = decode(path, min_side=min_side)
    turned = decoded.metadata.orientation >= 5 and row["format"] not in ("TIFF", "HEIF")
    expected = row["size"][::-1] if turned else row["size"]
    assert [decoded.metadata.width, decoded.metadata.height] == expected
    assert decoded.image.mode == "RGB"
    if min_side is None:
        assert list(decoded.image.size) == expected
    else:
        assert min(decoded.image.size) >= min(min_side, *expected)


@needs_messy
@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_photographs_turned_in_the_camera_look_alike(name):
    hashes = [
        perceptual_hash(decode(path, min_side=260).image)
        for path in sorted((_MESSY / "exif_orientation").glob(f"{name}_*.jpg"))
    ]
    assert len(hashes) == 5
    assert max(hamming(hashes[0], other) for other in hashes) <= 4


# Perceptual hashes


def test_copies_have_near_hashes_and_other_pictures_far_ones(photo):
    original = perceptual_hash(photo)
    copies = [
        photo.resize((226, 150)),
        photo.resize((902, 600)),
        decode_bytes(encoded(photo, "JPEG", quality=30)).image,
        decode_bytes(encoded(photo, "WEBP", quality=40), min_side=100).image,
    ]
    assert max(hamming(original, perceptual_hash(copy)) for copy in copies) <= 6
    others = [samples.astronaut(), samples.coffee(), samples.rocket()]
    assert min(hamming(original, perceptual_hash(Image.fromarray(o))) for o in others) > 14


def test_a_hash_fits_a_signed_64_bit_integer(photo):
    hashes = [perceptual_hash(photo.transpose(turn)) for turn in Image.Transpose]
    assert all(-(2**63) <= value < 2**63 for value in hashes)
    assert min(hashes) < 0 < max(hashes)


def test_flat_pictures_hash_alike():
    colours = [(0, 0, 0), (255, 255, 255), (90, 17, 200)]
    assert {perceptual_hash(Image.new("RGB", (50, 40), c)) for c in colours} == {0}


def test_hamming_counts_bits_of_negative_numbers_too():
    assert hamming(0, -1) == 64 and hamming(-1, -1) == 0 and hamming(-(2**63), 0) == 1
