"""A full disk and a read-only one: a clear error, nothing lost, and searching goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from children import Nursery, Say, nursery
from support import ColourEncoder, open_colour, write_picture, write_pictures, write_text
from test_crash import committed, content

import xsearch
from xsearch.core.encoder import EncoderInfo, TextEmbeddings
from xsearch.indexer import sqlite
from xsearch.indexer.indices import segments

IMAGES = 120
CLONE_NEWNS = 0x00020000

try:
    import resource
except ImportError:
    resource = None


class WideEncoder(ColourEncoder):
    """Colours in vectors wide enough for the files of vectors to matter."""

    def __init__(self) -> None:
        super().__init__("c011")
        self.dim = 512
        self.info = EncoderInfo("wide", "wide", "c011", 512, "numpy", "fp32")

    def embed_images(self, batch: np.ndarray) -> np.ndarray:
        return self._widen(super().embed_images(batch))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        narrow = super().embed_texts(texts)
        return TextEmbeddings(self._widen(narrow.vectors), narrow.cut)

    def _widen(self, vectors: np.ndarray) -> np.ndarray:
        return np.pad(vectors, ((0, 0), (0, self.dim - vectors.shape[1])))


# A file system of one's own, seen by one child only


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def leave_free(place: Path, count: int) -> None:
    """Fill the disk but for `count` bytes."""
    ballast = place / "ballast"
    ballast.unlink(missing_ok=True)
    status = os.statvfs(place)
    with ballast.open("wb") as file:
        file.write(bytes(max(status.f_bavail * status.f_bsize - count, 0)))


def command_line(*words: object) -> subprocess.CompletedProcess[str]:
    run = "from xsearch.cli.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", run, *map(str, words)], capture_output=True, text=True, check=False
    )


def own_mounts() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def job_can_mount(say: Say, place: str) -> bool:
    try:
        own_mounts()
        with small_disk(Path(place), "1m"):
            return True
    except (OSError, AttributeError, subprocess.CalledProcessError):
        return False


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.fixture(scope="module")
def mounts(children: Nursery, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("mounts") / "disk"
    if not children.start("test_disk.job_can_mount", place=place).result():
        pytest.skip("mounting a small file system needs root in a mount namespace of its own")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "photos"
    for at, path in enumerate(write_pictures(folder, IMAGES)):
        if at % 3 == 0:
            write_text(path.with_suffix(".txt"), f"a sidecar of picture {at}")
    return folder


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that never met a full disk."""
    folder = tmp_path_factory.mktemp("whole") / "library"
    with xsearch.open(folder, encoder=WideEncoder()) as library:
        library.index(photos)
    return folder


def answers(folder: Path, encoder: ColourEncoder | None = None) -> int:
    with xsearch.open(folder, encoder=encoder, create=False) as library:
        return len(library.search("anything", k=IMAGES * 2))


# A full disk


def job_fill(say: Say, place: str, photos: str) -> None:
    own_mounts()
    disk = Path(place)
    folder = disk / "library"
    with small_disk(disk, "900k"):
        with (
            pytest.raises(xsearch.StorageError, match="free some space") as error,
            xsearch.open(folder, encoder=WideEncoder()) as library,
        ):
            library.index(photos, commit_seconds=0)
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)
        leave_free(disk, 0)
        say("full", str(error.value))
        held = answers(folder, WideEncoder())
        assert 0 < held < IMAGES
        (disk / "ballast").unlink()
        remount(disk, "size=64m")
        assert len(committed_images(folder)) == held
        with xsearch.open(folder, encoder=WideEncoder()) as library:
            checked = library.check()
            assert checked.ok, checked
            report = library.index(photos)
            assert library.check().ok
        say("embedded", [held, report.embedded])
        shutil.copytree(folder, disk.parent / "filled")


def committed_images(folder: Path) -> set[bytes]:
    return {digest for kind, digest in committed(folder) if kind == "image"}


def test_a_full_disk_ends_a_run_clearly_and_costs_nothing_committed(
    children: Nursery, mounts: None, photos: Path, whole: Path, tmp_path: Path
) -> None:
    child = children.start("test_disk.job_fill", place=tmp_path / "disk", photos=photos)
    child.result()
    assert content(tmp_path / "filled") == content(whole)


def job_sweep(say: Say, place: str, photos: str, whole: str, task: str) -> list[str]:
    """Try a task with less and less free space; whatever happens, nothing may be lost."""
    own_mounts()
    disk, encoder = Path(place), WideEncoder()
    folder = disk / "library"
    failures = []
    # A graph even of a few pictures: the one index that takes as much space as the vectors do.
    segments.TAIL_ROWS = 0
    for free in range(0, 600_000, 30_000):
        with small_disk(disk, "16m"):
            shutil.copytree(whole, folder)
            if task == "index":
                shutil.rmtree(folder / "indices")
            if task == "compact":
                with xsearch.open(folder, encoder=encoder) as library:
                    library.remove(Path(photos) / "000.jpg")
            leave_free(disk, free)
            try:
                with xsearch.open(folder, encoder=encoder) as library:
                    if task == "index":
                        library.index(photos, index_kind="hnsw")
                    elif task == "compact":
                        library.compact()
                    else:
                        library.remove(Path(photos) / "000.jpg")
            except xsearch.StorageError as error:
                failures.append(str(error))
            found = answers(folder, encoder)
            removed = {"index": {0}, "compact": {1}, "remove": {0, 1}}[task]
            assert IMAGES - found in removed
            (disk / "ballast").unlink()
            assert answers(folder, encoder) == found
            with xsearch.open(folder, encoder=encoder) as library:
                checked = library.check()
                assert checked.ok, checked
                library.compact()
                library.index(photos)
                assert library.check().repaired == ()
            assert content(folder)["items"] == content(Path(whole))["items"]
    return failures


@pytest.mark.parametrize("task", ["index", "compact", "remove"])
def test_a_disk_that_fills_up_during_any_task_costs_nothing(
    children: Nursery, mounts: None, photos: Path, whole: Path, tmp_path: Path, task: str
) -> None:
    child = children.start(
        "test_disk.job_sweep", place=tmp_path / "disk", photos=photos, whole=whole, task=task
    )
    failures = child.result()
    # It failed where there was little room, not where there was enough, and never silently.
    assert 0 < len(failures) < 20
    assert all("\n" not in failure and "free some space" in failure for failure in failures)
    if task == "index":
        assert any("index could not be written" in failure for failure in failures)
    if task == "compact":
        assert any("no space to compact" in failure for failure in failures)


def job_create(say: Say, place: str) -> list[str]:
    own_mounts()
    disk = Path(place)
    folder = disk / "library"
    failures = []
    for free in (0, 8_000, 40_000, 100_000, 200_000, 300_000, 500_000, 800_000):
        with small_disk(disk, "4m"):
            leave_free(disk, free)
            try:
                open_colour(folder).close()
            except xsearch.StorageError as error:
                failures.append(str(error))
                told = command_line("init", disk)
                assert told.returncode == 1
                assert told.stderr.count("\n") == 1
                assert "No space left" in told.stderr or "full" in told.stderr
            (disk / "ballast").unlink()
            with open_colour(folder) as library:
                assert library.check().ok
                assert library.search("anything") == []
    return failures


def test_a_full_disk_while_a_library_is_made(
    children: Nursery, mounts: None, tmp_path: Path
) -> None:
    failures = children.start("test_disk.job_create", place=tmp_path / "disk").result()
    assert 3 <= len(failures) < 8


def job_limit(say: Say, folder: str, photos: str, limit: int) -> int:
    """No file may grow beyond a limit, then any may."""
    library = xsearch.open(folder, encoder=WideEncoder())
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        library.index(photos, commit_seconds=0)
    except xsearch.StorageError as error:
        say("refused", str(error))
    library.close()
    held = len(committed_images(Path(folder)))
    assert answers(Path(folder), WideEncoder()) == held
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    with xsearch.open(folder, encoder=WideEncoder()) as library:
        assert library.check().ok
        library.index(photos)
        assert library.check().ok
    return held


@pytest.mark.skipif(resource is None, reason="limits on the size of files need POSIX")
@pytest.mark.parametrize("limit", [50_000, 300_000])
def test_a_write_that_is_refused_costs_nothing_committed(
    children: Nursery, photos: Path, whole: Path, tmp_path: Path, limit: int
) -> None:
    folder = tmp_path / "library"
    child = children.start("test_disk.job_limit", folder=folder, photos=photos, limit=limit)
    assert child.result() < IMAGES
    assert child.said("refused")
    assert content(folder) == content(whole)


# Read-only media


def job_read_only(say: Say, place: str, library: str, photos: str) -> None:
    own_mounts()
    disk = Path(place)
    folder = disk / "library"
    with small_disk(disk, "16m"):
        shutil.copytree(library, folder)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        remount(disk, "ro")
        with xsearch.open(folder, encoder=WideEncoder()) as opened:
            assert opened.status().items["image"] == IMAGES
            picture = Path(photos) / "007.jpg"
            assert opened.search(xsearch.Image(picture), k=1)[0].path == picture
            assert len(opened.search("anything", k=IMAGES * 2)) == IMAGES
            for write in (
                lambda: opened.index(photos),
                lambda: opened.remove(photos),
                opened.compact,
                opened.check,
            ):
                with pytest.raises(xsearch.LibraryReadOnlyError, match="cannot be written to"):
                    write()
            assert len(opened.search("anything", k=IMAGES * 2)) == IMAGES
        with pytest.raises(xsearch.LibraryReadOnlyError):
            xsearch.open(disk / "another")
        for words in (("check",), ("compact",), ("remove", photos)):
            told = command_line(*words, "--library", folder)
            assert told.returncode == 1
            assert told.stderr.count("\n") == 1
            assert "cannot be written to" in told.stderr
        assert command_line("status", "--library", folder).returncode == 0
        assert before == {path: path.read_bytes() for path in before}


def test_a_read_only_library_answers_and_says_that_it_cannot_be_changed(
    children: Nursery, mounts: None, photos: Path, whole: Path, tmp_path: Path
) -> None:
    children.start(
        "test_disk.job_read_only", place=tmp_path / "disk", library=whole, photos=photos
    ).result()


def job_hold_log(say: Say, folder: str, photos: str) -> None:
    """Index while another connection is open, so that the log stays."""
    with xsearch.open(folder, encoder=WideEncoder()) as library:
        reader = sqlite.connect_reader(Path(folder) / "catalog.db")
        library.index(photos)
        say("indexed", reader.execute("SELECT count(*) FROM files").fetchone())
        signal.pause()


def test_a_killed_writers_library_on_read_only_media_answers(
    children: Nursery, mounts: None, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    child = children.start("test_disk.job_hold_log", folder=folder, photos=photos)
    child.until("indexed")
    child.kill()
    assert (folder / "catalog.db-wal").stat().st_size > 0
    children.start(
        "test_disk.job_read_only", place=tmp_path / "disk", library=folder, photos=photos
    ).result()


def test_a_library_copied_without_its_log_is_read_as_far_as_it_goes(
    photos: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    ignore = shutil.ignore_patterns("*-wal", "*-shm", "writer.*")
    shutil.copytree(whole, folder, ignore=ignore)
    assert answers(folder, WideEncoder()) == IMAGES
    write_picture(tmp_path / "more" / "new.png", 999)
    with xsearch.open(folder, encoder=WideEncoder()) as library:
        assert library.check().ok
        assert library.index(tmp_path / "more").added == 1
