"""Which file names are pictures. Light: imported by every command."""

from __future__ import annotations

# What Pillow's raster plugins and pillow-heif read. Left out on purpose: formats that run
# another program (EPS, PostScript), vector and scientific containers, and video.
SUFFIXES_OF = {
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "PNG": ".png .apng",
    "GIF": ".gif",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif .tiff",
    "AVIF": ".avif .avifs",
    "HEIF": ".heic .heics .heif .heifs .hif",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "ICO": ".ico",
    "ICNS": ".icns",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "PCX": ".pcx",
    "PSD": ".psd",
    "SGI": ".sgi .bw .rgb .rgba",
    "DDS": ".dds",
    "QOI": ".qoi",
    "DIB": ".dib",
    "TGA": ".tga .icb .vda .vst",
}
IMAGE_SUFFIXES: frozenset[str] = frozenset(
    suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes.split()
)


def is_image_name(name: str) -> bool:
    """Tell by its suffix whether a file name is that of a picture that can be read."""
    stem, _, suffix = name.rpartition(".")
    return bool(stem) and "." + suffix.lower() in IMAGE_SUFFIXES
