"""What `query` does with hits: previews, copies, links, contact sheets, pages, opening."""

from __future__ import annotations

import base64
import filecmp
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from html import unescape
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import LONG_AGO_NS, picture, write_picture, write_pictures

from xsearch.cli.show import Output, show
from xsearch.cli.show.files import put
from xsearch.cli.show.sheet import plan
from xsearch.core.errors import MissingExtraError, SourceError, StorageError, UsageError
from xsearch.core.lettering import Lettering
from xsearch.core.values import Hit

try:
    import fcntl
    import pty
    import termios
except ImportError:
    pty = None

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def hits_of(paths: Sequence[Path]) -> list[Hit]:
    """A hit for each picture, best first."""
    return [
        Hit(100 + rank, rank, "image", 1 - rank / 100, 0.3, path)
        for rank, path in enumerate(paths, 1)
    ]


def text_hit(rank: int, text: str, path: Path | None) -> Hit:
    return Hit(200 + rank, rank, "text", 0.5, 0.2, path, text)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What excludes what


@pytest.mark.parametrize(
    "asked",
    [
        {"json": True, "filepath_only": True},
        {"json": True, "null": True},
        {"json": True, "preview": True},
        {"preview": True, "filepath_only": True},
        {"preview": True, "null": True},
    ],
)
def test_two_ways_to_list_hits_exclude_each_other(asked: dict[str, bool]) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        Output(**asked)


def test_paths_may_be_asked_for_twice() -> None:
    assert Output(null=True).paths_alone
    assert Output(filepath_only=True, null=True).paths_alone


@pytest.mark.parametrize(
    "asked", [{"contact_sheet": Path("a.txt")}, {"html": Path("a.jpg")}, {"html": Path("html")}]
)
def test_a_name_must_tell_the_format(asked: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"must end in \."):
        Output(**asked)


# Lists


def test_paths_for_xargs_are_raw_bytes_with_a_nul_after_each(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    raw = [b"/p/a b.jpg", b"/p/line\nbreak.jpg", b"/p/caf\xe9.jpg" if os.name == "posix" else b"/c"]
    show(hits_of([Path(os.fsdecode(path)) for path in [*raw, raw[0]]]), Output(null=True), "")
    assert capsysbinary.readouterr().out == b"".join(path + b"\0" for path in raw)


@posix
def test_a_terminal_gets_nul_bytes_too_when_asked(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"/p/caf\xe9.jpg"))
    assert b"/p/caf\xe9.jpg\0" in on_a_terminal(tmp_path, hits_of([path]), Output(null=True))


def test_a_plain_list_loads_nothing_heavy(tmp_path: Path) -> None:
    told = "import atexit; atexit.register(lambda: print('LOADED', *sys.modules))"
    done = in_a_process(tmp_path, hits_of([tmp_path / "a.jpg"]), Output(), told)
    loaded = {name.partition(".")[0] for name in done.stdout.partition("LOADED")[2].split()}
    assert "xsearch" in loaded
    assert not loaded & {"PIL", "numpy", "chafa", "ctypes"}


# Copies


def test_copies_keep_names_contents_and_dates(tmp_path: Path, photos: Path) -> None:
    paths = write_pictures(photos, 3)
    show(hits_of(paths), Output(copy_to=tmp_path / "new" / "picked"), "")
    folder = tmp_path / "new" / "picked"
    assert contents(folder) == contents(photos)
    assert {path.stat().st_mtime_ns for path in folder.iterdir()} == {LONG_AGO_NS}


def test_a_name_that_is_taken_gets_a_number_and_nothing_is_overwritten(
    tmp_path: Path, photos: Path
) -> None:
    paths = [write_picture(photos / folder / "photo.jpg", at) for at, folder in enumerate("abc")]
    folder = tmp_path / "picked"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"mine")
    show(hits_of(paths), Output(copy_to=folder), "")
    assert contents(folder) == {
        "photo.jpg": b"mine",
        "photo-2.jpg": paths[0].read_bytes(),
        "photo-3.jpg": paths[1].read_bytes(),
        "photo-4.jpg": paths[2].read_bytes(),
    }


def test_what_is_there_already_is_left_alone(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_picture(photos / folder / "photo.jpg", at) for at, folder in enumerate("ab")]
    folder = tmp_path / "picked"
    show(hits_of(paths), Output(copy_to=folder), "")
    before = {path: path.stat().st_ino for path in folder.iterdir()}
    show(hits_of(paths), Output(copy_to=folder), "")
    assert {path: path.stat().st_ino for path in folder.iterdir()} == before
    assert "0 pictures copied" in capsys.readouterr().err.splitlines()[-1]
    # The folder of the pictures themselves.
    show(hits_of(paths), Output(copy_to=photos / "a"), "")
    assert sorted(contents(photos / "a")) == ["photo-2.jpg", "photo.jpg"]


@posix
def test_a_broken_link_keeps_its_name(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "picked"
    folder.mkdir()
    (folder / "000.jpg").symlink_to(tmp_path / "nowhere.jpg")
    show(hits_of(write_pictures(photos, 1)), Output(copy_to=folder), "")
    assert (folder / "000.jpg").is_symlink()
    assert not (tmp_path / "nowhere.jpg").exists()
    assert filecmp.cmp(folder / "000-2.jpg", photos / "000.jpg", shallow=False)


@posix
def test_the_longest_names_get_a_number_too(tmp_path: Path, photos: Path) -> None:
    name = "ž" * 125 + ".jpg"
    paths = [write_picture(photos / folder / name, at) for at, folder in enumerate("ab")]
    show(hits_of(paths), Output(copy_to=tmp_path / "picked"), "")
    longer = "ž" * 124 + "-2.jpg"
    assert sorted(contents(tmp_path / "picked")) == sorted([name, longer])


_names = st.sampled_from(["a.jpg", "a-2.jpg", "b.jpg", "c"])
_files = st.lists(st.tuples(_names, st.binary(max_size=2)), max_size=6)


@settings(max_examples=40, deadline=None)
@given(sources=_files, there=_files)
def test_every_picture_arrives_and_whatever_was_there_stays(
    sources: list[tuple[str, bytes]], there: list[tuple[str, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root, folder = Path(place), Path(place) / "picked"
        folder.mkdir()
        for name, content in there:
            (folder / name).write_bytes(content)
        before = contents(folder)
        paths = []
        for at, (name, content) in enumerate(sources):
            (root / str(at)).mkdir()
            paths.append(root / str(at) / name)
            paths[-1].write_bytes(content)
        show(hits_of(paths), Output(copy_to=folder), "")
        after = contents(folder)
        assert before.items() <= after.items()
        assert {content for _, content in sources} <= set(after.values())
        assert len(after) <= len(before) + len(sources)
        show(hits_of(paths), Output(copy_to=folder), "")
        assert contents(folder) == after


def test_a_picture_that_cannot_be_had_costs_only_itself(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, gone, last = write_pictures(photos, 3)
    gone.unlink()
    away = Hit(1, 4, "image", 0.1, 0.1, Path("/mnt/away.jpg"), missing=True)
    with pytest.raises(SourceError, match="2 pictures could not be had"):
        show([*hits_of([first, gone, last]), away], Output(copy_to=tmp_path / "picked"), "")
    assert contents(tmp_path / "picked") == contents(photos)
    told = capsys.readouterr().err
    assert "not copied: " in told
    assert "001.jpg" in told
    assert "away.jpg: cannot be reached now" in told


def test_a_texts_picture_is_copied_and_a_text_alone_is_told(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write_pictures(photos, 1)
    alone = text_hit(2, "a rocket", tmp_path / "notes.txt")
    show([text_hit(1, "a cat", path), alone], Output(copy_to=tmp_path / "picked"), "")
    assert contents(tmp_path / "picked") == contents(photos)
    assert "note: 1 hit without a picture: not copied" in capsys.readouterr().err


def test_without_pictures_no_folder_is_made(tmp_path: Path) -> None:
    show([], Output(copy_to=tmp_path / "picked", link_to=tmp_path / "links"), "")
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "picked").write_text("mine")
    with pytest.raises(StorageError, match="picked: is no folder"):
        show(hits_of(write_pictures(photos, 1)), Output(copy_to=tmp_path / "picked"), "")
    assert (tmp_path / "picked").read_text() == "mine"


@posix
def test_a_disk_that_refuses_leaves_only_whole_copies(tmp_path: Path, photos: Path) -> None:
    paths = [write_picture(photos / f"{at}.bmp", at, (40, 40)) for at in range(2)]
    paths.append(write_picture(photos / "large.bmp", 3, (400, 400)))
    done = in_a_process(
        tmp_path,
        hits_of(paths),
        Output(copy_to=tmp_path / "picked", filepath_only=True),
        before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))",
    )
    assert "StorageError" in done.stderr
    assert "2 of 3 pictures were copied, each whole" in done.stderr
    assert sorted(contents(tmp_path / "picked")) == ["0.bmp", "1.bmp"]


def test_writing_into_an_indexed_folder_is_told(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_pictures(photos, 1)
    show(hits_of(paths), Output(copy_to=tmp_path / "picked"), "", roots=[photos])
    assert "indexed folder" not in capsys.readouterr().err
    show(hits_of(paths), Output(copy_to=photos / "picked"), "", roots=[photos])
    assert "picked lies in an indexed folder" in capsys.readouterr().err


# Links


@posix
def test_links_lead_to_the_pictures_from_anywhere(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [write_picture(photos / folder / "photo.jpg", at) for at, folder in enumerate("ab")]
    relative = [path.relative_to(tmp_path) for path in paths]
    for _ in range(2):  # what is there already is left alone
        show(hits_of(relative), Output(link_to=Path("links")), "")
    links = sorted((tmp_path / "links").iterdir())
    assert [link.name for link in links] == ["photo-2.jpg", "photo.jpg"]
    assert [link.readlink() for link in links] == [paths[1], paths[0]]


@posix
def test_a_link_takes_no_name_that_is_taken(tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "000.jpg").write_bytes(b"mine")
    show(hits_of(write_pictures(photos, 1)), Output(link_to=folder), "")
    assert (folder / "000.jpg").read_bytes() == b"mine"
    assert (folder / "000-2.jpg").readlink() == photos / "000.jpg"


# Contact sheets


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp"])
def test_a_contact_sheet_shows_each_picture_upright_and_undistorted(
    tmp_path: Path, photos: Path, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photos / "turned.png"
    Image.new("RGB", (640, 240), "red").save(turned, exif=exif)
    paths = [turned, photos / "blue.png"]
    Image.new("RGB", (64, 48), "blue").save(paths[1])
    place = tmp_path / f"sheet{suffix}"
    show(hits_of(paths), Output(contact_sheet=place), "colours")
    grid = plan(2)
    with Image.open(place) as sheet:
        assert sheet.size == grid.size
        shown = sheet.convert("RGB")
    # 640 x 240 turned to 240 x 640, in a field of 320 x 240: 90 x 240, in its middle.
    for at, size, channel in ((0, (90, 240), 0), (1, (64, 48), 2)):
        left, top = grid.place(at)
        field = shown.crop((left, top, left + grid.width, top + grid.height))
        strong = field.getchannel(channel).point(lambda value: 255 * (value > 200))
        weak = field.getchannel(1).point(lambda value: 255 * (value < 100))
        box = Image.composite(strong, Image.new("L", field.size), weak).getbbox()
        assert box is not None
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx(size, abs=2)
        assert (box[0] + box[2]) / 2 == pytest.approx(grid.width / 2, abs=2)


def test_pictures_that_cannot_be_shown_are_fields_that_say_so(tmp_path: Path, photos: Path) -> None:
    broken = photos / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a picture")
    gone = Hit(1, 2, "image", 0.1, 0.1, Path("/mnt/gone.jpg"), missing=True)
    alone = text_hit(3, "only a text " * 40, None)
    hits = [*hits_of([broken]), gone, alone]
    show(hits, Output(contact_sheet=tmp_path / "s.png", html=tmp_path / "s.html"), "")
    grid = plan(3)
    with Image.open(tmp_path / "s.png") as sheet:
        for at in range(3):
            left, top = grid.place(at)
            field = sheet.crop((left, top, left + grid.width, top + grid.height)).convert("L")
            darkest, lightest = field.getextrema()
            assert lightest == 0xF0
            assert darkest < 0xA0  # letters
    page = (tmp_path / "s.html").read_text("utf-8")
    assert "the file is" in page
    assert "cannot be reached now" in page
    assert "only a text" in page


def test_no_hits_make_an_empty_sheet_and_page(tmp_path: Path) -> None:
    show([], Output(contact_sheet=tmp_path / "s.jpg", html=tmp_path / "s.html"), "nothing")
    with Image.open(tmp_path / "s.jpg") as sheet:
        sheet.load()
    assert "0 hits" in (tmp_path / "s.html").read_text("utf-8")


@given(st.integers(0, 1_000))
def test_a_grid_has_room_for_all_and_can_be_written(number: int) -> None:
    grid = plan(number)
    assert grid.rows * grid.columns >= number
    assert (grid.rows - 1) * grid.columns < max(number, 1)
    assert max(grid.size) < 16_384  # what WebP takes
    if number > 3:
        assert 0.7 < grid.size[0] / grid.size[1] < 3


def test_letters_that_no_font_has_are_escaped_and_long_names_are_cut() -> None:
    written = Lettering(16)
    assert written.width("\U0003fffe") == written.width("\\U0003fffe") > 0
    name = "a very long name of a photograph, number 17.jpg"
    assert written.lines(name, 10_000, 3) == [name]
    lines = written.lines(name, 150, 3)
    assert len(lines) == 3
    assert " ".join(lines) == name


# Pages


class Page(HTMLParser):
    """What a page has: its links, pictures, texts, and everything that could load something."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        assert not [name for name in values if name.startswith("on")]
        if tag == "a":
            self.links.append(str(values["href"]))
        if tag == "img":
            self.pictures.append(values)


@posix
def test_a_page_leads_to_the_files_whatever_their_names(tmp_path: Path, photos: Path) -> None:
    names = [b"plain.jpg", b"caf\xe9 100%#?.jpg", '猫 & "q" \'<b>.jpg'.encode()]
    paths = [write_picture(photos / f"{at}.jpg", at) for at in range(len(names))]
    renamed = [
        path.rename(photos / os.fsdecode(name)) for path, name in zip(paths, names, strict=True)
    ]
    show(hits_of(renamed), Output(html=tmp_path / "page.html"), "<script>alert(1)</script>")
    page = Page(tmp_path / "page.html")
    assert [urlsplit(link).scheme for link in page.links] == ["file"] * 3
    found = [unquote_to_bytes(urlsplit(link).path) for link in page.links]
    assert found == [os.fsencode(path) for path in renamed]
    assert "script" not in page.tags
    assert "b" not in page.tags


def test_a_page_holds_everything_it_shows(tmp_path: Path, photos: Path) -> None:
    paths = [write_picture(photos / "a.png", 1, (1600, 800)), write_picture(photos / "b.png", 2)]
    hits = [*hits_of(paths), text_hit(3, "two <dogs> & a ball", paths[0])]
    show(hits, Output(html=tmp_path / "page.html"), "two dogs")
    page = Page(tmp_path / "page.html")
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base"})
    assert len(page.pictures) == 3
    sizes = []
    for shown in page.pictures:
        kind, _, data = str(shown["src"]).partition(",")
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            sizes.append(image.size)
        assert (shown["width"], shown["height"]) == tuple(map(str, sizes[-1]))
    assert sizes == [(400, 200), (64, 48), (400, 200)]
    text = (tmp_path / "page.html").read_text("utf-8")
    assert unescape(text).count("two <dogs> & a ball") == 2  # the text, and instead of the picture
    assert "<dogs>" not in text
    assert not re.search(r"https?://|url\(|@import", text)


# Nothing of the user's is overwritten


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.png", "sheet.webp", "page.html"])
def test_what_xsearch_wrote_is_replaced(tmp_path: Path, photos: Path, name: str) -> None:
    paths = write_pictures(photos, 5)
    kind = "html" if name.endswith("html") else "contact_sheet"
    output = Output(**{kind: tmp_path / name})
    show(hits_of(paths[:1]), output, "one")
    first = (tmp_path / name).read_bytes()
    show(hits_of(paths), output, "five")
    assert (tmp_path / name).read_bytes() != first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["photos", name])


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.png", "page.html"])
def test_what_others_wrote_is_refused_before_anything_is_done(
    tmp_path: Path, photos: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / name
    if name.endswith("html"):
        place.write_text('<!doctype html><meta name="generator" content="another">')
    else:
        exif = Image.Exif()
        exif[0x0131] = "My camera, not xsearch contact sheet"
        picture(1).save(place, exif=exif)
    before = place.read_bytes()
    kind = "html" if name.endswith("html") else "contact_sheet"
    output = Output(copy_to=tmp_path / "picked", **{kind: place})
    with pytest.raises(SourceError, match="was not made by xsearch"):
        show(hits_of(write_pictures(photos, 1)), output, "")
    assert place.read_bytes() == before
    assert not (tmp_path / "picked").exists()
    assert capsys.readouterr().out == ""


def test_a_folder_must_be_there_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        show([], Output(html=tmp_path / "none" / "page.html"), "")


@posix
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, photos: Path) -> None:
    paths = write_pictures(photos, 30)
    place = tmp_path / "out" / "page.html"
    place.parent.mkdir()
    show(hits_of(paths[:1]), Output(html=place), "before")
    before = place.read_bytes()
    done = in_a_process(
        tmp_path,
        hits_of(paths),
        Output(html=place),
        before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))",
    )
    assert "StorageError" in done.stderr
    assert contents(place.parent) == {"page.html": before}


@posix
def test_a_link_to_a_page_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.html", tmp_path / "link.html"
    show([], Output(html=real), "one")
    link.symlink_to(real)
    show([], Output(html=link), "two")
    assert link.is_symlink()
    assert "two" in real.read_text("utf-8")


def test_a_name_that_is_taken_at_the_last_moment_stays_taken(tmp_path: Path) -> None:
    partial, place = tmp_path / "partial", tmp_path / "photo.jpg"
    partial.write_bytes(b"ours")
    place.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        put(partial, place)
    assert place.read_bytes() == b"mine"


# Opening


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system whose program for opening writes down what it was given; its list."""
    if not sys.platform.startswith("linux"):
        pytest.skip("xdg-open is Linux's")
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >> "{tmp_path}/opened"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return tmp_path / "opened"


def test_hits_are_opened_by_the_systems_program(opened: Path, tmp_path: Path, photos: Path) -> None:
    paths = write_pictures(photos, 2)
    gone = Hit(1, 3, "image", 0.1, 0.1, Path("/mnt/gone.jpg"), missing=True)
    done = in_a_process(tmp_path, [*hits_of([*paths, paths[0]]), gone], Output(open=True))
    assert sorted(opened.read_text().splitlines()) == [str(path) for path in paths]
    assert "gone.jpg cannot be reached now: not opened" in done.stderr


def test_without_anyone_to_ask_only_ten_are_opened(
    opened: Path, tmp_path: Path, photos: Path
) -> None:
    paths = write_pictures(photos, 12)
    done = in_a_process(tmp_path, hits_of(paths), Output(open=True))
    assert sorted(opened.read_text().splitlines()) == [str(path) for path in paths[:10]]
    assert "opened the first 10 of 12" in done.stderr


def test_a_system_that_opens_nothing_is_told(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("xdg-open is Linux's")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="no program here opens it"):
        show(hits_of(write_pictures(photos, 1)), Output(open=True), "")


# Previews


_CHILD = """
import pickle, sys
{before}
from xsearch.cli.show import show
show(*pickle.load(open(sys.argv[1], "rb")), "query")
"""
_numbers = count()


def command(place: Path, hits: Sequence[Hit], output: Output, before: str = "") -> list[str]:
    """The command line of a process that shows hits."""
    asked = place / f"{next(_numbers)}.asked"
    asked.write_bytes(pickle.dumps((list(hits), output)))
    return [sys.executable, "-c", _CHILD.format(before=before), str(asked)]


def in_a_process(
    place: Path, hits: Sequence[Hit], output: Output, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Show hits in a process of its own, whose output is no terminal.

    Programs that it starts write to the same pipes, so that they, too, are waited for.
    """
    words = command(place, hits, output, before)
    return subprocess.run(words, capture_output=True, text=True, check=False)


def on_a_terminal(
    place: Path,
    hits: Sequence[Hit],
    output: Output,
    answer: bytes = b"\x1b[?62;22c",
    **environment: str,
) -> bytes:
    """What a process writes to a terminal that gives an answer when asked for its attributes.

    It has 40 lines of 100 letters, of 8 x 16 pixels each.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 800, 640))
    telling = ("TERM", "KITTY", "TMUX", "KONSOLE", "WEZTERM", "LC_TERMINAL", "VTE", "COLORTERM")
    # What overrules the terminal's own size, too, which runners of tests set.
    telling += ("COLUMNS", "LINES")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(telling)}
    child = subprocess.Popen(
        command(place, hits, output),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**plain, **environment},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    written = b""
    with child:
        while True:
            try:
                read = os.read(ours, 1 << 16)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not read:
                break
            if b"\x1b[c" in read:
                os.write(ours, answer)
            written += read
    os.close(ours)
    assert child.returncode == 0, written
    return written


@pytest.fixture
def previews() -> None:
    """What previews need: a terminal, and libchafa with all that it needs."""
    if pty is None:
        pytest.skip("needs a POSIX system")
    try:
        import chafa  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"libchafa cannot be used here: {error}")


@pytest.fixture
def blue(photos: Path) -> Path:
    """A blue picture, turned by its EXIF tag: upright it is 480 pixels wide and 240 high."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (240, 480), (0, 0, 255)).save(photos / "blue.png", exif=exif)
    return photos / "blue.png"


def kitty_picture(written: bytes) -> Image.Image:
    head = re.search(rb"\x1b_Ga=T,f=32,s=(\d+),v=(\d+),c=(\d+),r=(\d+)", written)
    assert head
    parts = re.findall(rb"\x1b_Gm=[01];([^\x1b]*)\x1b\\", written)
    pixels = b"".join(map(base64.b64decode, parts))
    return Image.frombytes("RGBA", (int(head[1]), int(head[2])), pixels).convert("RGB")


Reader = Callable[[bytes], Image.Image]


def iterm_picture(written: bytes) -> Image.Image:
    file = re.search(rb"\x1b\]1337;File=inline=1;[^:]*:([^\x07]*)\x07", written)
    assert file
    return Image.open(io.BytesIO(base64.b64decode(file[1]))).convert("RGB")


@pytest.mark.parametrize(
    ("terminal", "read"),
    [
        ({"TERM": "xterm-kitty"}, kitty_picture),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, iterm_picture),
    ],
)
def test_a_terminal_gets_the_picture_in_its_own_graphics(
    previews: None, tmp_path: Path, blue: Path, terminal: dict[str, str], read: Reader
) -> None:
    written = on_a_terminal(tmp_path, hits_of([blue]), Output(preview=True), **terminal)
    assert b"blue.png" in written.partition(b"\x1b_G")[0].partition(b"\x1b]1337")[0]
    assert b"\x1b[c" not in written  # known by its name: not asked
    shown = read(written)
    assert shown.size == (512, 256)
    assert re.search(rb"c=64,r=16\b|width=64;height=16;", written)
    assert shown.getpixel((shown.width // 2, shown.height // 2)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("terminal", "answer"),
    [
        ({"TERM": "foot"}, b""),
        ({"TERM": "xterm-256color"}, b"\x1b[?63;1;2;4;6c"),
        # Kitty's own graphics would get lost in tmux, which draws Sixel by itself.
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x", "KITTY_PID": "1"}, b"\x1b[?1;2;4c"),
    ],
)
def test_a_terminal_that_draws_sixel_gets_sixel(
    previews: None, tmp_path: Path, blue: Path, terminal: dict[str, str], answer: bytes
) -> None:
    output = Output(preview=True)
    written = on_a_terminal(tmp_path, hits_of([blue]), output, answer, **terminal)
    head = re.search(rb'\x1bP[\d;]*q"1;1;(\d+);(\d+)', written)
    assert head
    assert int(head[1]) / int(head[2]) == pytest.approx(2, rel=0.1)
    assert b";0;0;100" in written  # blue, in per cent
    assert b"\x1b_G" not in written


@pytest.mark.parametrize("term", ["xterm-256color", "screen", "linux"])
def test_any_other_terminal_gets_block_characters(
    previews: None, tmp_path: Path, photos: Path, term: str
) -> None:
    paths = write_pictures(photos, 2)
    written = on_a_terminal(tmp_path, hits_of(paths), Output(preview=True), TERM=term)
    assert not re.search(rb"\x1bP|\x1b_G|\x1b\]1337", written)
    first, second = re.split(rb"001\.jpg\r\n", written)
    assert b"000.jpg" in first
    lines = second.decode().splitlines()
    letters = re.sub(r"\x1b\[[0-9;]*m", "", "".join(lines))
    assert {"▀", "▄", "▌", "▐", "█"} & set(letters)
    assert 4 <= len(lines) <= 17


def test_a_picture_that_cannot_be_shown_does_not_end_the_list(
    previews: None, tmp_path: Path, photos: Path, blue: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    gone = Hit(1, 3, "image", 0.1, 0.1, photos / "gone.jpg", missing=True)
    hits = [*hits_of([photos / "broken.jpg", blue]), gone, text_hit(4, "a text", None)]
    written = on_a_terminal(tmp_path, hits, Output(preview=True), TERM="xterm-kitty")
    assert b"note: no preview of 1: " in written
    assert written.count(b"\x1b_Ga=T") == 1
    assert b"(cannot be reached now)" in written
    assert written.rstrip().endswith(b"a text")


def test_in_a_pipe_there_are_no_previews(tmp_path: Path, photos: Path) -> None:
    paths = write_pictures(photos, 2)
    done = in_a_process(tmp_path, hits_of(paths), Output(preview=True))
    plain = in_a_process(tmp_path, hits_of(paths), Output())
    assert done.stdout == plain.stdout != ""
    assert done.stderr == "note: no pictures are shown, since the output is no terminal\n"


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (
            ModuleNotFoundError("No module named 'chafa'", name="chafa"),
            r"xsearch-engine\[preview\]",
        ),
        (ImportError("libglib-2.0 was not found on your system."), "libglib-2.0.*libchafa0"),
        (OSError("libchafa.so: cannot open shared object file"), "libchafa.so.*libchafa0"),
    ],
)
def test_what_previews_lack_is_told(
    failure: Exception, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xsearch.cli.show import preview

    def lacking(name: str) -> None:
        raise failure

    monkeypatch.setattr("importlib.import_module", lacking)
    with pytest.raises(MissingExtraError, match=advice):
        preview.write_previews([])
