"""`xsearch query` and `similar` as a user meets them, with the built-in encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import age, write_text
from test_cli import Shell, rows
from test_select import exif

import xsearch
from xsearch.cli.main import run
from xsearch.demo import write_demo_photos

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Album:
    """A library of six photographs and one text; nothing changes it."""

    here: Path
    ids: dict[str, int]

    @property
    def library(self) -> Path:
        return self.here / "library"


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Album]:
    here = tmp_path_factory.mktemp("query")
    samples = here / "samples"
    write_demo_photos(samples)

    def put(source: str, name: str, size: tuple[int, int], told: Image.Exif | None = None) -> None:
        place = here / "photos" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(samples / source) as image:
            options = {} if told is None else {"exif": told}
            image.convert("RGB").resize(size).save(place, **options)
        age(place)

    told = exif("Canon EOS 5D", "EF 50mm", "2024:06:15 12:00:00", (48.85, 2.35))
    put("chelsea.png", "chelsea.jpg", (300, 200), told)
    put("coffee.png", "coffee.png", (300, 200))
    put("rocket.jpg", "rocket.png", (300, 200))
    put("astronaut.png", "deep/astronaut.png", (256, 256))
    put("grass.png", "deep/lawn.png", (200, 300))
    put("page.png", "page.png", (400, 300))
    write_text(here / "photos" / "coffee.txt", "a hot drink on a wooden table")
    with xsearch.open(here / "library") as library:
        library.index(here / "photos")
        library.add_tag("space", here / "photos" / "rocket.png")
        found = library.search("anything", 20)
        yield Album(here, {hit.path.stem: hit.id for hit in found if hit.path})


class Asker:
    """Runs the command in this process, as its entry point does, from the album's folder."""

    def __init__(
        self, album: Album, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self._patch, self._capture = patch, capture
        patch.chdir(album.here)
        patch.setenv("XSEARCH_LIBRARY", str(album.library))

    def __call__(self, *words: Any, code: int = 0) -> Done:
        self._patch.setattr(sys, "argv", ["xsearch", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = self._capture.readouterr()
        done = Done(sys.argv, int(ended.value.code or 0), out, err)
        assert done.returncode == code, done
        return done

    def names(self, *words: Any) -> list[str]:
        """The names of what is found, best first."""
        return [Path(str(row["path"])).stem for row in rows(self(*words, "--json"))]

    def note(self, *words: Any) -> str:
        """What is said on stderr where nothing is found, which is no failure."""
        done = self(*words)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("note: ")
        return line


@pytest.fixture
def ask(album: Album, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Asker:
    return Asker(album, monkeypatch, capfd)


def test_a_command_of_its_own_finds_what_is_composed(album: Album) -> None:
    shell = Shell(album.here / "home", album.here)
    asked = ("cat", "+", "coffee", "-k", "2", "--library", str(album.library))
    done = shell.run("query", *asked, "--json")
    assert [Path(str(row["path"])).stem for row in rows(done)] == ["chelsea", "coffee"]
    assert done.stderr == ""


# Composed queries


def test_words_add_up_and_are_taken_away(ask: Asker) -> None:
    assert set(ask.names("query", "cat", "+", "coffee", "-k", 2)) == {"chelsea", "coffee"}
    assert ask.names("query", "animal", "-k", 1) == ["chelsea"]
    assert ask.names("query", "animal", "-", "cat", "-k", 5) != ask.names(
        "query", "animal", "-k", 5
    )
    assert "chelsea" not in ask.names("query", "animal", "without", "cat", "-k", 2)
    assert ask.names("query", "./photos/coffee.png", "+", "cat", "-k", 1) == ["coffee"]
    assert ask.names("query", "0.1:coffee", "+", "cat", "-k", 1) == ["chelsea"]


def test_how_a_query_was_read_is_said_beside_the_hits(ask: Asker) -> None:
    plain = ask("query", "animal", "without", "cat", "-k", 2)
    assert plain.stderr == ""
    done = ask("query", "animal", "without", "cat", "-k", 2, "--explain-query")
    assert done.stdout == plain.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == '+1  words "animal"'
    assert lines[1].startswith("-") and lines[1].endswith('"cat"  (subtracted by "without")')
    assert "--no-negation" in lines[2]
    # What it says is the same can be asked.
    assert lines[3] == "The same: animal - 0.5:cat"
    assert ask("query", "animal", "-", "0.5:cat", "-k", 2).stdout == plain.stdout


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["animal", "without", "cat", "--no-negation"], ['+1  words "animal without cat"']),
        (["animal", "-", "cat", "--literal"], ['+1  words "animal - cat"']),
        (["animal", "without", "cat", "--literal"], ['+1  words "animal without cat"']),
        (["2:cat", "--literal"], ['+1  words "2:cat"']),
        (["2:cat"], ['+2  words "cat"']),
        (["--add", "coffee"], ['+1  words "coffee"']),
        (["--add", "no coffee", "--add", "b", "--no-negation"], ['"no coffee"', '"b"']),
        (["a", "--add", "b", "--add", "2:c"], ['"a"', '"b"', '+2  words "c"']),
        (["a", "--subtract", "b", "--subtract", "0.5:c"], ['"a"', '-1  words "b"', "-0.5  words"]),
        (["a", "--subtract", "not b"], ['+1  words "a"', '-1  words "not b"']),
        (["a", "--add", "./photos/page.png"], ['"a"', "+1  picture", "--no-fusion adds them"]),
        (["a", "--add", "./photos/page.png", "--no-fusion"], ['"a"', "+1  picture"]),
        (["2:a", "--add", "2:./photos/page.png"], ['"a"', "+2  picture"]),
        (["a", "--subtract", "./photos/page.png"], ['"a"', "-1  picture"]),
        (["./photos/page.png", "--literal"], ['+1  words "./photos/page.png"']),
    ],
)
def test_options_say_how_a_query_is_read(ask: Asker, words: list[str], lines: list[str]) -> None:
    said = ask("query", "-k", 1, "--explain-query", *words).stderr.splitlines()
    for line, part in zip(said, lines, strict=False):
        assert part in line
    assert len(said) == len(lines) + (len(lines) > 1)


def test_a_picture_and_words_are_joined_unless_they_are_weighed_or_it_is_switched_off(
    ask: Asker,
) -> None:
    def scores(*words: str) -> list[float]:
        done = ask("query", "--json", "--mode", "meaning", *words)
        return [row["score"] for row in rows(done)]

    joined = scores("./photos/coffee.png", "+", "on grass")
    added = scores("./photos/coffee.png", "+", "on grass", "--no-fusion")
    assert joined != added
    assert scores("2:./photos/coffee.png", "+", "2:on grass") == added
    # All that are found are still found.
    assert len(joined) == len(added)


def test_what_is_added_and_subtracted_counts(ask: Asker) -> None:
    assert set(ask.names("query", "--add", "cat", "--add", "coffee", "-k", 2)) == {
        "chelsea",
        "coffee",
    }
    plain = ask.names("query", "animal on the lawn", "--mode", "meaning")
    less = ask.names("query", "animal on the lawn", "--mode", "meaning", "--subtract", "cat")
    assert less.index("chelsea") > plain.index("chelsea")


def test_examples_move_a_query(ask: Asker, album: Album) -> None:
    rocket, cat = album.ids["rocket"], album.ids["chelsea"]

    def similarity(name: str, *words: Any) -> float:
        hits = rows(ask("query", "a picture", "--json", *words))
        return next(float(str(hit["similarity"])) for hit in hits if name in str(hit["path"]))

    assert ask.names("query", "a picture", "--like", rocket, "-k", 1) == ["rocket"]
    assert similarity("rocket", "--like", rocket) > similarity("rocket") + 0.1
    assert similarity("chelsea", "--unlike", cat) < similarity("chelsea") - 0.05
    both = ask.names("query", "a picture", "--like", rocket, "--like", cat, "-k", 2)
    assert set(both) == {"rocket", "chelsea"}


def test_words_alone_find_what_is_written(ask: Asker) -> None:
    assert ask.names("query", "hot drink", "--mode", "words") == ["coffee"]
    assert ask.names("query", "space", "--mode", "words") == ["rocket"]
    assert set(ask.names("query", "deep", "--mode", "words")) == {"astronaut", "lawn"}
    assert "--mode meaning" in ask.note("query", "giraffe", "--mode", "words")
    assert ask.names("query", "hot drink", "-k", 1) == ["coffee"]


# Fewer hits


def test_a_least_score_leaves_out_the_rest(ask: Asker) -> None:
    assert ask.names("query", "cat", "--min-score", 0.5) == ["chelsea"]
    assert len(ask.names("query", "cat", "--min-score", 0)) == 6
    assert "with a score of 1 or more" in ask.note("query", "cat", "--min-score", 1)


def test_a_cut_shows_good_matches_and_says_where_there_are_none(ask: Asker) -> None:
    assert ask.names("query", "cat", "--auto-cut") == ["chelsea"]
    absent = ("query", "quarterly tax form of a submarine", "--auto-cut")
    assert "nothing in this library matches" in ask.note(*absent)
    assert "nothing in this library matches" in ask.note(*absent, "--json")


def test_an_unknown_tag_is_named(ask: Asker) -> None:
    assert "no picture has the tag 'Space'" in ask.note("query", "cat", "--tag", "Space")
    assert "from the indexed folder on" in ask.note("query", "cat", "--path", "nowhere/*.jpg")


def test_the_name_of_a_file_finds_it_with_its_suffix_too(ask: Asker) -> None:
    assert ask.names("query", "lawn.png", "-k", 1) == ["lawn"]
    assert ask.names("query", "lawn.png", "--mode", "words") == ["lawn"]


def test_hits_that_differ_are_the_same_few_in_another_order(ask: Asker) -> None:
    plain, varied = (ask.names("query", "cat", *more) for more in ((), ("--diverse",)))
    assert plain[0] == varied[0] == "chelsea"
    assert sorted(plain) == sorted(varied)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--after", "2024"], {"chelsea"}),
        (["--before", "2020-01-31"], {"coffee", "rocket", "astronaut", "lawn", "page"}),
        (["--camera", "canon"], {"chelsea"}),
        (["--lens", "50mm"], {"chelsea"}),
        (["--near", "48.85,2.36,5"], {"chelsea"}),
        (["--path", "r*"], {"rocket"}),
        (["--path", "r*", "--path", "deep/*"], {"rocket", "astronaut", "lawn"}),
        (["--type", "jpeg"], {"chelsea"}),
        (["--type", "jpeg", "--type", "gif"], {"chelsea"}),
        (["--min-size", "400x300"], {"page"}),
        (["--orientation", "portrait"], {"lawn"}),
        (["--orientation", "square"], {"astronaut"}),
        (["--root", "photos/deep"], {"astronaut", "lawn"}),
        (["--has-text"], {"coffee"}),
        (["--no-text"], {"chelsea", "rocket", "astronaut", "lawn", "page"}),
        (["--tag", "space"], {"rocket"}),
        (["--tag", "space", "--tag", "time"], set()),
        (["--orientation", "landscape", "--before", "2020", "--no-text"], {"rocket", "page"}),
    ],
)
def test_filters_leave_what_meets_them(ask: Asker, words: list[str], found: set[str]) -> None:
    hits = ask.names("query", "anything", *words)
    assert len(hits) == len(found)
    assert set(hits) == found


def test_where_nothing_meets_the_filters_a_note_says_so(ask: Asker) -> None:
    assert ask.note("query", "cat", "--type", "gif") == "note: no pictures meet the filters"
    assert "no texts" in ask.note("query", "cat", "--for", "text", "--camera", "canon")
    assert ask("query", "cat", "--type", "gif", "-k", 0).stderr == ""


# Bad values


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "say what to look for"),
        (["--subtract", "cat"], "say what to look for"),
        ([""], "the query is empty"),
        (["--add", ""], "the query is empty"),
        (["--", "-", "cat"], "only subtracts"),
        (["cat", "-", "cat"], "cancel out"),
        (["id:99"], "no item 99"),
        (["cat", "--like", "99"], "no item 99"),
        (["cat", "--unlike", "0"], "0"),
        (["photos/coffee.png", "--mode", "words"], "only pictures"),
        (["cat", "--min-score", "nan"], "min_score"),
        (["cat", "--after", "never"], "after: 'never'"),
        (["cat", "--before", "2024-13"], "before: '2024-13'"),
        (["cat", "--near", "95,0,1"], "near: "),
        (["cat", "--path", ""], "path"),
        (["cat", "--type", "doc"], "type: 'doc'"),
        (["cat", "--min-size", "huge"], "min_size: 'huge'"),
        (["cat", "--orientation", "round"], "orientation: 'round'"),
        (["cat", "--camera", ""], "camera"),
        (["cat", "--lens", " "], "lens"),
        (["cat", "--tag", ""], "tag"),
        (["cat", "--json", "-f"], "--json"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(
    ask: Asker, words: list[str], says: str
) -> None:
    done = ask("query", *words, code=2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("xsearch: ")
    assert says in line


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--min-score", "2"], "--min-score"),
        (["--min-score", "-0.1"], "--min-score"),
        (["--min-score", "high"], "--min-score"),
        (["--mode", "magic"], "--mode"),
        (["--for", "video"], "--for"),
        (["--like", "x"], "--like"),
        (["--unlike", "1.5"], "--unlike"),
        (["-k", "-1"], "--top"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_value_of_the_wrong_kind_names_its_option_and_exits_with_2(
    ask: Asker, words: list[str], option: str
) -> None:
    done = ask("query", "cat", *words, code=2)
    assert done.stdout == ""
    first, *others = done.stderr.splitlines()
    assert first.startswith("xsearch: ") and option in first
    assert others[-1].endswith("query -h` lists what there is.")


def test_a_place_without_pictures_fails(ask: Asker) -> None:
    done = ask("query", "cat", "--root", "nowhere", code=1)
    (line,) = done.stderr.splitlines()
    assert "xsearch status" in line
    assert "no such picture" in ask("query", "--add", "./nope.jpg", code=1).stderr


# What is printed


def test_hits_are_printed_with_their_ids_for_programs(ask: Asker, album: Album) -> None:
    (hit,) = rows(ask("query", "cat", "--json", "-k", 1))
    assert list(hit) == ["rank", "id", "score", "similarity", "kind", "path"]
    assert (hit["rank"], hit["id"], hit["kind"]) == (1, album.ids["chelsea"], "image")
    assert hit["path"] == str(album.here / "photos" / "chelsea.jpg")
    assert 0.5 < float(str(hit["score"])) <= 1
    # An id that was printed is a query.
    assert ask.names("query", f"id:{hit['id']}", "-k", 1) == ["chelsea"]


def test_texts_are_found(ask: Asker, album: Album) -> None:
    for asked in ("espresso", "hot drink", "./photos/coffee.png"):
        (hit,) = rows(ask("query", asked, "--for", "text", "--json"))
        assert list(hit) == ["rank", "id", "score", "similarity", "kind", "text", "path"]
        assert (hit["kind"], hit["text"]) == ("text", "a hot drink on a wooden table")
        assert hit["path"] == str(album.here / "photos" / "coffee.png")


def test_paths_may_end_in_nul_bytes(ask: Asker, album: Album) -> None:
    out = ask("query", "cat", "-0", "-k", 3).stdout
    assert out.endswith("\0") and "\n" not in out
    paths = out.split("\0")[:-1]
    assert paths[0] == str(album.here / "photos" / "chelsea.jpg")
    assert len(paths) == 3 and all(Path(path).is_file() for path in paths)
    assert ask("query", "cat", "-f", "-k", 3).stdout.split("\n")[:-1] == paths


# Look-alikes


def test_similar_pictures_are_those_of_the_library_without_itself(ask: Asker, album: Album) -> None:
    by_path = ask.names("similar", "photos/chelsea.jpg")
    assert sorted(by_path) == ["astronaut", "coffee", "lawn", "page", "rocket"]
    assert ask.names("similar", album.ids["chelsea"]) == by_path
    assert ask.names("similar", "photos/chelsea.jpg", "-k", 2) == by_path[:2]
    # A picture that the library does not have is compared with all.
    assert ask.names("similar", "samples/chelsea.png", "-k", 1) == ["chelsea"]
    out = ask("similar", "photos/chelsea.jpg", "-0", "-k", 1).stdout
    assert out == f"{next((album.here / 'photos').rglob(f'{by_path[0]}.*'))}\0"
    hit = json.loads(ask("similar", "photos/chelsea.jpg", "-k", 1, "--json").stdout)
    assert list(hit) == ["rank", "id", "score", "similarity", "kind", "path"]


def test_similar_to_what_is_not_there_is_an_error(ask: Asker) -> None:
    (line,) = ask("similar", 99, code=2).stderr.splitlines()
    assert "no item 99" in line
    (line,) = ask("similar", "nope.jpg", code=1).stderr.splitlines()
    assert "nope.jpg: no such picture" in line
    assert ask("similar", code=2).stdout == ""
