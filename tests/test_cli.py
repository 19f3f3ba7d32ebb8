"""The command `xsearch`, run as a user runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import write_picture, write_pictures, write_text

import xsearch

COMMANDS = (
    *("index", "init", "demo", "query", "status", "remove", "compact", "check", "reindex"),
    *("classify", "tag", "caption", "duplicates", "models", "import", "export", "train"),
    *("evaluate", "explain"),
)
_SCRIPT = Path(sysconfig.get_path("scripts")) / "xsearch"

Done = subprocess.CompletedProcess[str]


def _hear_ctrl_c() -> None:
    """What a shell runs in the background inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Shell:
    """A home of its own, and a folder to be in."""

    def __init__(self, home: Path, here: Path) -> None:
        self.home = home
        self.here = here
        here.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name != "XSEARCH_LIBRARY"}
        places = ("HOME", "USERPROFILE", "XDG_DATA_HOME", "LOCALAPPDATA")
        self.environment = {**kept, **dict.fromkeys(places, str(home)), "PYTHONUTF8": "1"}

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(_SCRIPT), *map(str, words)],
            cwd=self.here,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            preexec_fn=_hear_ctrl_c if os.name == "posix" else None,
        )

    def run(self, *words: str | Path, code: int = 0, **environment: str) -> Done:
        with self.start(*words, **environment) as process:
            out, err = process.communicate()
        done = Done(process.args, process.returncode, out, err)
        assert done.returncode == code, done
        assert "--debug" in words or "Traceback" not in err, err
        return done

    def fail(self, *words: str | Path) -> str:
        """Run what must fail; the one line that says why."""
        done = self.run(*words, code=1)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("xsearch: ")
        return line


def rows(done: Done) -> list[dict[str, object]]:
    """The JSON objects of an output, one a line."""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell whose user has indexed the sample photographs and some texts; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    shell = Shell(folder / "home", folder / "here")
    shell.run("demo", "./photos")
    write_text(shell.here / "photos" / "chelsea.txt", "My cat, ein süßes Kätzchen 🐈\n")
    write_text(shell.here / "notes.txt", "a rocket starts into space\n")
    done = shell.run("index", "./photos", "notes.txt")
    assert "added" in done.stdout
    return shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell of a user who has no library yet."""
    return Shell(tmp_path / "home", tmp_path / "here")


# The two commands


@pytest.mark.parametrize(
    ("words", "name"),
    [("cat", "chelsea"), ("a rocket launch", "rocket"), ("cup of coffee", "coffee")],
)
def test_words_find_the_sample_photograph_that_shows_them(
    demo: Shell, words: str, name: str
) -> None:
    first = rows(demo.run("query", "--json", words))[0]
    assert Path(str(first["path"])).stem == name
    assert demo.run("query", *words.split()).stdout.splitlines()[0].split()[-1].startswith("photos")


def test_a_library_is_made_in_the_users_own_place(demo: Shell) -> None:
    status = rows(demo.run("status", "--json"))[0]
    assert Path(str(status["path"])).is_relative_to(demo.home)
    assert status["encoder"] == "builtin"
    assert status["failed"] == 0
    (root, note) = status["roots"]  # type: ignore[misc]
    assert {root["path"], note["path"]} == {str(demo.here / "photos"), str(demo.here / "notes.txt")}


def test_hits_as_json_have_the_documented_keys(demo: Shell) -> None:
    hits = rows(demo.run("query", "--json", "-k", "3", "cat"))
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    for hit in hits:
        assert list(hit) == ["rank", "id", "score", "similarity", "kind", "path"]
        assert hit["kind"] == "image"
        assert 0.0 <= float(str(hit["score"])) <= 1.0
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_texts_are_found_by_words_and_by_a_picture(demo: Shell) -> None:
    words = rows(demo.run("query", "--for", "text", "--json", "rocket"))
    assert words[0]["text"] == "a rocket starts into space"
    assert words[0]["path"] == str(demo.here / "notes.txt")
    by_picture = rows(demo.run("query", "--for", "text", "--json", "photos/chelsea.png"))
    assert by_picture[0]["text"] == "My cat, ein süßes Kätzchen 🐈"
    assert by_picture[0]["path"] == str(demo.here / "photos" / "chelsea.png")


def test_an_existing_picture_is_a_query_for_look_alikes(demo: Shell) -> None:
    for query in ("photos/coffee.png", "./photos/coffee.png", str(demo.here / "photos/coffee.png")):
        hit = rows(demo.run("query", "--json", query))[0]
        assert Path(str(hit["path"])).name == "coffee.png"
        assert float(str(hit["similarity"])) > 0.99


def test_paths_alone_are_printed_one_a_line(demo: Shell) -> None:
    lines = demo.run("query", "-f", "-k", "2", "cat").stdout.splitlines()
    assert lines[0] == str(demo.here / "photos" / "chelsea.png")
    assert len(lines) == 2


def test_asking_for_none_or_for_more_than_there_are_is_answered(demo: Shell) -> None:
    assert demo.run("query", "-k", "0", "cat").stdout == ""
    everything = demo.run("query", "-k", "1000", "cat").stdout.splitlines()
    assert len(everything) == len(list((demo.here / "photos").glob("*.*g")))


def test_no_hits_is_no_failure(shell: Shell) -> None:
    (shell.here / "empty").mkdir()
    done = shell.run("index", "empty")
    assert "none found" in done.stdout
    done = shell.run("query", "cat")
    assert done.stdout == ""
    assert "holds no pictures" in done.stderr
    assert rows(shell.run("query", "--json", "--for", "text", "cat")) == []


def test_a_second_index_says_that_nothing_changed(demo: Shell) -> None:
    report = rows(demo.run("index", "--json"))[0]
    assert report["unchanged"] == len(list((demo.here / "photos").glob("*.*g"))) + 1
    assert (report["added"], report["decoded"], report["embedded"]) == (0, 0, 0)
    assert report["library"] == rows(demo.run("status", "--json"))[0]["path"]
    documented = {"added", "updated", "moved", "removed", "unchanged", "failed", "texts", "seconds"}
    assert documented <= set(report)


def test_status_for_people_names_what_matters(demo: Shell) -> None:
    out = demo.run("status").stdout
    for word in ("library", "image", "text", "roots", "encoder", "builtin", "on disk", "last run"):
        assert word in out
    assert str(demo.here / "photos") in out


# Errors


def test_a_missing_library_is_an_error_that_says_what_to_do(shell: Shell) -> None:
    for command in ("query cat", "status", "remove x", "compact", "check"):
        line = shell.fail(*command.split())
        assert "no library" in line
        assert "xsearch index" in line
    assert not list(shell.home.rglob("catalog.db"))


def test_a_path_that_does_not_exist_is_no_text(demo: Shell) -> None:
    for query in ("./nope.jpg", "../nope", "/no/such", "~/nope.jpg", "./photos"):
        assert "picture" in demo.fail("query", query)
    assert "no such file" in demo.fail("index", "./nope")
    assert "neither" in demo.fail("index", str(_SCRIPT))


def test_a_picture_that_cannot_be_read_is_an_error(demo: Shell, tmp_path: Path) -> None:
    bad = write_text(tmp_path / "bad.jpg", "no picture")
    assert "bad.jpg" in demo.fail("query", bad)
    assert "could not be fetched" in demo.fail("query", "http://127.0.0.1:9/a.jpg")


def test_debug_shows_the_traceback(shell: Shell) -> None:
    for words in (("--debug", "query", "cat"), ("query", "cat", "--debug")):
        assert "Traceback" in shell.run(*words, code=1).stderr


def test_wrong_usage_is_exit_code_2(demo: Shell) -> None:
    assert "qurey" in demo.run("qurey", "cat", code=2).stderr
    assert demo.run("query", code=2).stdout == ""
    demo.run("query", "--for", "video", "cat", code=2)
    demo.run("query", "-k", "-1", "cat", code=2)
    demo.run("query", "", code=2)
    demo.run("index", "--workers", "0", code=2)


def test_a_query_that_begins_with_a_dash_goes_after_two(demo: Shell) -> None:
    assert "xsearch query -- " in demo.run("query", "-5°C outside", code=2).stderr
    assert demo.run("query", "--", "-5°C outside").stdout
    assert demo.run("query", "-k", "1", "--", "--debug").stdout


def test_help_is_there_for_every_command(demo: Shell) -> None:
    assert all(command in demo.run("-h").stdout for command in COMMANDS)
    for command in COMMANDS:
        assert command in demo.run(command, "-h").stdout
    assert demo.run("--version").stdout == f"xsearch {xsearch.__version__}\n"


# Keeping a library


def test_init_makes_a_library_for_this_folder_and_those_below(shell: Shell) -> None:
    write_picture(shell.here / "deep" / "er" / "a.jpg", 1)
    assert "made" in shell.run("init").stdout
    assert "already" in shell.run("init").stdout
    inner = Shell(shell.home, shell.here / "deep" / "er")
    inner.run("index", ".")
    assert Path(str(rows(inner.run("status", "--json"))[0]["path"])) == shell.here / ".xsearch"
    assert inner.run("query", "-f", "a").stdout == f"{inner.here / 'a.jpg'}\n"
    # The library's own folder is never scanned, and the two other ways to name one win.
    assert rows(shell.run("index", ".", "--json"))[0]["skipped"] == 0
    other = shell.here.parent / "other"
    inner.run("index", ".", XSEARCH_LIBRARY=str(other))
    assert (other / "catalog.db").exists()
    assert "no library" in inner.fail("status", "--library", str(other.parent / "third"))


def test_failed_files_are_listed_with_their_reasons(shell: Shell) -> None:
    write_picture(shell.here / "p" / "good.jpg", 1)
    for at in range(7):
        write_text(shell.here / "p" / f"bad{at}.jpg", "no picture")
    done = shell.run("index", "p")
    assert "1 added, 7 failed" in done.stdout
    assert "status --failed" in done.stderr
    lines = shell.run("status", "--failed").stdout.splitlines()
    assert len(lines) == 7
    assert lines[0] == f"{Path('p') / 'bad0.jpg'}: not a picture in a known format"
    listed = rows(shell.run("status", "--failed", "--json"))
    assert listed[0] == {
        "path": str(shell.here / "p" / "bad0.jpg"),
        "reason": "not a picture in a known format",
    }


def test_remove_compact_and_check_say_what_they_did(shell: Shell) -> None:
    write_pictures(shell.here / "p", 4)
    shell.run("index", "p")
    assert "2 files" not in shell.run("remove", "p/000.jpg").stdout
    assert rows(shell.run("remove", "--json", "p/001.jpg"))[0] == {"files": 1, "items": 1}
    assert (shell.here / "p" / "000.jpg").exists()
    assert "holds nothing" in shell.fail("remove", "p/001.jpg")
    assert "dropped 2" in shell.run("compact").stdout
    assert "all is well" in shell.run("check").stdout
    report = rows(shell.run("check", "--json"))[0]
    assert (report["ok"], report["vectors"], report["lost"]) == (True, 2, 0)


def test_check_fails_where_something_was_lost_and_index_brings_it_back(shell: Shell) -> None:
    write_pictures(shell.here / "p", 3)
    shell.run("index", "p")
    (vectors,) = shell.home.rglob("*.f16")
    data = bytearray(vectors.read_bytes())
    data[10] ^= 0xFF
    vectors.write_bytes(data)
    done = shell.run("check", code=1)
    assert "not all is well" in done.stdout
    assert rows(shell.run("index", "--json"))[0]["embedded"] == 1
    shell.run("check")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_done_and_the_next_run_goes_on(shell: Shell) -> None:
    pictures = sorted(write_pictures(shell.here / "p", 1_500))  # as they are scanned
    shell.run("init")
    library = xsearch.open(shell.here / ".xsearch", create=False)
    with library, shell.start("index", "p") as process:
        while not library.status().files:
            assert process.poll() is None, "ended before it committed anything"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert process.returncode == 130
        assert out == ""
        (line,) = err.splitlines()
        assert "interrupted" in line
        done = library.status().files
        assert 0 < done < len(pictures)
        run = library.status().last_run
        assert run is not None
        assert (run["state"], run["report"]["added"]) == ("interrupted", done)
        for path in pictures[done + 3 :]:
            path.unlink()
        report = rows(shell.run("index", "--json"))[0]
        assert (report["unchanged"], report["added"]) == (done, 3)
        assert library.check().ok


# Output


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
@pytest.mark.parametrize("words", [("query", "cat"), ("query", "-f", "cat"), ("status", "--json")])
def test_a_pipe_that_is_closed_ends_the_command_quietly(
    demo: Shell, words: tuple[str, ...]
) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [str(_SCRIPT), *words],
            cwd=demo.here,
            env=demo.environment,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 0


def test_output_that_is_not_utf8_is_escaped_and_stays_json(demo: Shell) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = demo.run("query", "--for", "text", "photos/chelsea.png", **ascii_only)
    assert "\\xfc" in done.stdout
    done = demo.run("query", "--json", "--for", "text", "photos/chelsea.png", **ascii_only)
    assert done.stdout.isascii()
    assert rows(done)[0]["text"] == "My cat, ein süßes Kätzchen 🐈"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no UTF-8")
def test_a_path_that_is_not_utf8_is_printed_as_it_is_in_a_pipe(shell: Shell) -> None:
    odd = os.fsencode(shell.here) + b"/p/caf\xe9.jpg"
    (shell.here / "p").mkdir()
    shutil.copy(write_picture(shell.here / "a.jpg", 1), os.fsdecode(odd))
    shell.run("index", "p")
    done = subprocess.run(
        [str(_SCRIPT), "query", "-f", "cat"],
        cwd=shell.here,
        env=shell.environment,
        capture_output=True,
    )
    assert done.stdout == odd + b"\n"
    hit = rows(shell.run("query", "--json", "cat"))[0]
    assert str(hit["path"]).endswith("caf\\xe9.jpg")
    assert "caf\\xe9.jpg" in shell.run("query", "cat").stdout


def test_a_long_query_says_that_its_end_was_ignored(demo: Shell) -> None:
    done = demo.run("query", "-k", "1", "a cat on the grass " * 600)
    assert done.stderr.startswith("note: ")
    assert "ignored" in done.stderr
    assert len(done.stdout.splitlines()) == 1


# What a start costs

_HEAVY = ("torch", "faiss", "onnxruntime", "sqlalchemy", "alembic", "numpy", "PIL")


def _imported(shell: Shell, code: str, names: tuple[str, ...]) -> str:
    check = (
        "import sys\n"
        "try:\n"
        f"    {code}\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('heavy:', *[name for name in {names} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=shell.here,
        env=shell.environment,
        capture_output=True,
        text=True,
    )
    return done.stderr


def test_importing_it_and_its_help_import_nothing_heavy(shell: Shell) -> None:
    command = "sys.argv = ['xsearch', {}]; from xsearch.cli.main import run; run()"
    for code in ("import xsearch", command.format("'--help'"), command.format("'query', '-h'")):
        assert _imported(shell, code, _HEAVY) == "heavy:\n"


def test_a_query_imports_neither_sqlalchemy_nor_pillow(demo: Shell) -> None:
    code = "sys.argv = ['xsearch', 'query', 'cat']; from xsearch.cli.main import run; run()"
    names = ("torch", "sqlalchemy", "alembic", "PIL", "rich.progress", "numpy")
    assert _imported(demo, code, names) == "heavy: numpy\n"


def test_ctrl_c_while_the_command_is_loaded_is_no_traceback() -> None:
    code = (
        "import sys, typing\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from xsearch.cli.entry import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "xsearch: interrupted\n")
