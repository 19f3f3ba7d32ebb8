"""The page of hits: one HTML file with everything in it, to look at, keep and pass on."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from xsearch.cli.render import counted
from xsearch.cli.show.files import whole_file
from xsearch.cli.show.pictures import each, look
from xsearch.core.paths import absolute, displayable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from xsearch.core.reports import ProgressCallback
    from xsearch.core.values import Hit

_BOX = (400, 320)  # pixels of a picture's small version
_QUALITY = 75
_WIDEST, _NARROWEST = 2.4, 0.5  # of fields, by their height
_MARK = '<meta name="generator" content="xsearch">'
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --field: #f0f0f0; --ink: #1b1b1b; --pale: #666;
  --accent: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --paper: #161616; --field: #2a2a2a; --ink: #ececec;
  --pale: #a3a3a3; --accent: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem clamp(1rem, 3vw, 2.5rem); background: var(--paper);
  color: var(--ink); font: 0.9rem/1.4 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1rem; margin: 0 0 1.25rem; }
h1 { margin: 0; font-size: 1.5rem; font-weight: 600; overflow-wrap: anywhere; }
header p, .score, .path, .note { color: var(--pale); }
header p { margin: 0; }
ol { display: flex; flex-wrap: wrap; gap: 1.25rem 0.9rem; margin: 0; padding: 0; list-style: none; }
ol::after { content: ""; flex: 1000 0 0; }
li { flex: var(--r) 1 calc(var(--r) * 13rem); max-width: min(100%, calc(var(--r) * 20rem));
  min-width: 7rem; content-visibility: auto; contain-intrinsic-size: auto 17rem; }
a { display: block; color: inherit; text-decoration: none; border-radius: 6px;
  outline-offset: 3px; }
a:focus-visible { outline: 3px solid var(--accent); }
a:hover .name { text-decoration: underline; }
.field { display: grid; place-items: center; aspect-ratio: var(--r); width: 100%; margin: 0;
  padding: 0; background: var(--field); border-radius: 6px; overflow: hidden; }
img { display: block; width: 100%; height: 100%; object-fit: contain; }
img.tiny { width: auto; height: auto; max-width: 100%; max-height: 100%; }
.said { padding: 1rem; overflow-wrap: anywhere; max-height: 100%; overflow: auto; }
li p { margin: 0.3rem 0 0; overflow-wrap: anywhere; }
.rank { font-weight: 600; margin-right: 0.6em; }
.score { margin-right: 0.6em; font-variant-numeric: tabular-nums; }
.path { font-size: 0.8rem; }
"""


@dataclass(frozen=True, slots=True)
class _Small:
    """A hit and its picture's small version as a WebP file, or why there is none."""

    hit: Hit
    webp: bytes
    size: tuple[int, int]
    reason: str

    @property
    def tiny(self) -> bool:
        """Whether it is to be shown as large as it is, since it would be a blur if blown up."""
        return max(self.size) < min(_BOX) // 2


def is_page(path: Path) -> bool:
    """Whether a file is a page of xsearch, and so may be overwritten by another."""
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(1024)
    except OSError:
        return False


def write_page(
    path: Path, hits: Sequence[Hit], title: str, progress: ProgressCallback | None = None
) -> None:
    """Write hits as a page that needs no other file, no network and no script.

    Pictures are in it as small versions and link to their files. Memory does not grow with the
    number of hits.

    Raises:
        SourceError: another's file is there.
        StorageError: the disk refused.
    """
    with whole_file(path, is_page) as file:
        file.write(_head(title, len(hits)).encode("utf-8", "backslashreplace"))
        for small in each(hits, _small, progress):
            file.write(_item(small).encode("utf-8", "backslashreplace"))
        file.write(b"</ol>\n</main>\n</html>\n")


def _small(hit: Hit) -> _Small:
    shown = look(hit, _BOX)
    if shown.image is None:
        return _Small(hit, b"", (400, 300), shown.reason)
    return _Small(hit, _webp(shown.image), shown.image.size, "")


def _webp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def _head(title: str, count: int) -> str:
    shown = escape(" ".join(title.split()))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
{_MARK}
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{shown} - xsearch</title>
<style>{_STYLE}</style>
<header><h1 dir="auto">{shown}</h1><p>{counted(count, "hit")}</p></header>
<main>
<ol>
"""


def _item(small: _Small) -> str:
    hit = small.hit
    name = "" if hit.path is None else displayable(hit.path.name)
    inside = [_field(small, name)]
    inside.append(
        f'<p><span class="rank">{hit.rank}</span><span class="score" '
        f'title="similarity {hit.similarity:.3f}">{hit.score:.2f}</span>'
        f'<span class="name">{escape(name)}</span></p>'
    )
    body = "".join(inside)
    if hit.path is not None:
        href = escape(absolute(hit.path).as_uri())
        body = f'<a href="{href}" title="{escape(displayable(hit.path))}">{body}</a>'
    if hit.text and (small.webp or small.reason):
        body += f'<p dir="auto">{escape(hit.text)}</p>'
    if hit.other_paths:
        others = escape("\n".join(map(displayable, hit.other_paths)))
        body += (
            f'<p class="path" title="{others}">+{len(hit.other_paths)} with the same content</p>'
        )
    ratio = 1.0 if small.tiny else small.size[0] / small.size[1]
    ratio = min(max(ratio, _NARROWEST), _WIDEST)
    return f'<li style="--r:{ratio:.3f}">{body}</li>\n'


def _field(small: _Small, name: str) -> str:
    if small.reason:
        return f'<div class="field"><p class="said note">{escape(small.reason)}</p></div>'
    if not small.webp:
        said = escape(small.hit.text or "")
        return f'<div class="field"><p class="said" dir="auto">{said}</p></div>'
    data = base64.b64encode(small.webp).decode()
    width, height = small.size
    kind = ' class="tiny"' if small.tiny else ""
    return (
        f'<div class="field"><img{kind} width="{width}" height="{height}" loading="lazy" '
        f'decoding="async" alt="{escape(small.hit.text or name)}" '
        f'src="data:image/webp;base64,{data}"></div>'
    )
