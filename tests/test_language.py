"""The query language: how queries are composed, written, read, written again and explained."""

from __future__ import annotations

import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import write_picture

import xsearch
from xsearch import Image, Item, Part, Query, SourceError, UsageError, explain_query, parse
from xsearch.core.query import MOST_PARTS
from xsearch.retrieval.explaining import unparse
from xsearch.retrieval.grammar import read
from xsearch.retrieval.lexing import CLOSERS
from xsearch.retrieval.negation import negations
from xsearch.retrieval.plain import might_negate


def text(query: Query) -> str:
    """The text of a query that is one literal text."""
    (part,) = query.parts
    assert isinstance(part.content, str) and part.weight == 1.0
    return part.content


# Composing


def test_queries_compose_with_operators() -> None:
    query = Query("cat") + Image("x.jpg") - "dog" + 2 * Item(3)
    assert query.parts == (
        Part("cat"),
        Part(Image("x.jpg")),
        Part("dog", -1.0),
        Part(Item(3), 2.0),
    )
    assert "cat" + Image("x.jpg") == Query("cat", Image("x.jpg"))
    assert "cat" - Item(3) == Query("cat", Part(Item(3), -1.0))
    assert Image("x.jpg") + "cat" == Query(Image("x.jpg"), "cat")
    assert -(Query("a") - "b") == Query(Part("a", -1.0), "b")
    assert (Query("a") - "b") * 0.5 == Query(Part("a", 0.5), Part("b", -0.5))
    assert Query("a") - (Query("b") - "c") == Query("a", Part("b", -1.0), "c")


def test_a_path_is_a_picture_and_a_text_is_taken_literally() -> None:
    assert Query(Path("x.jpg")) == Query(Image(Path("x.jpg")))
    assert text(Query(" 2:cat + id:3 without dogs ")) == "2:cat + id:3 without dogs"


def test_queries_are_values() -> None:
    query = Query("cat") - Item(3)
    assert query == Query("cat", Part(Item(3), -1))
    assert hash(query) == hash(Query("cat", Part(Item(3), -1)))
    assert pickle.loads(pickle.dumps(query)) == query
    assert query != Query("cat", Item(3))
    assert eval(repr(query), {"Query": Query, "Part": Part, "Item": Item}) == query
    with pytest.raises(AttributeError):
        query.parts = ()


def test_how_it_was_said_does_not_change_what_is_asked() -> None:
    assert Part("people", -0.5, "without") == Part("people", -0.5)
    assert Part("red car") != Part("red car", phrases=("red car",))
    assert [part.said for part in (-parse("beach without people")).parts] == [None, None]


@pytest.mark.parametrize("weight", [0, 0.0, math.inf, -math.inf, math.nan, 10**400])
def test_weights_are_finite_and_not_zero(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        Part("cat", weight)
    with pytest.raises(UsageError, match="weight"):
        Query("cat") * weight


def test_what_cannot_be_asked_is_refused() -> None:
    for empty in ("", "  \n"):
        with pytest.raises(UsageError, match="empty"):
            Query(empty)
        with pytest.raises(UsageError, match="empty"):
            Query("cat") + empty
    with pytest.raises(UsageError, match="empty"):
        Query()
    for number in (0, -1, 2**63, 1.5):
        with pytest.raises(UsageError, match="id"):
            Item(number)
    with pytest.raises(UsageError, match="int"):
        Query(17)
    with pytest.raises(UsageError, match="red"):
        Part("a blue car", phrases=("red car",))
    with pytest.raises(TypeError):
        Query("cat") + 3


def test_a_query_that_only_subtracts_is_refused_when_it_is_searched_for() -> None:
    with pytest.raises(UsageError, match="only subtracts"):
        parse("- dog").checked()
    assert parse("- dog + cat").checked().parts[1] == Part("cat")


def test_too_many_parts_are_refused_when_they_are_searched_for() -> None:
    most = Query(*["cat"] * MOST_PARTS)
    assert most.checked() is most
    with pytest.raises(UsageError, match=str(MOST_PARTS)):
        (most + "cat").checked()


# Reading


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("cat on grass", [Part("cat on grass")]),
        ("horse + stripes", [Part("horse"), Part("stripes")]),
        ("apple - fruit", [Part("apple"), Part("fruit", -1)]),
        ("- fruit + apple", [Part("fruit", -1), Part("apple")]),
        ("+ cat", [Part("cat")]),
        ("2:golden retriever + pool", [Part("golden retriever", 2), Part("pool")]),
        ("0.5:cat - 1,5:dog", [Part("cat", 0.5), Part("dog", -1.5)]),
        ("cat + -0.5:dog", [Part("cat"), Part("dog", -0.5)]),
        (".5:cat", [Part("cat", 0.5)]),
        ("id:17", [Part(Item(17))]),
        ("id:17 - 2:id:3", [Part(Item(17)), Part(Item(3), -2)]),
        ("id:17 + red", [Part(Item(17)), Part("red")]),
        ('"red car"', [Part("red car", phrases=("red car",))]),
        ('photo of a "red car", old', [Part("photo of a red car, old", phrases=("red car",))]),
        ('2:"a + b" - "c"', [Part("a + b", 2, None, ("a + b",)), Part("c", -1, None, ("c",))]),
        ('cat -"red car"', [Part("cat"), Part("red car", -1, None, ("red car",))]),
        ('"2:cat"', [Part("2:cat", phrases=("2:cat",))]),
        ('"id:17"', [Part("id:17", phrases=("id:17",))]),
        (
            "“red car” + „blau“",
            [Part("red car", 1, None, ("red car",)), Part("blau", 1, None, ("blau",))],
        ),
        ("« rouge » + »rot«", [Part("rouge", 1, None, ("rouge",)), Part("rot", 1, None, ("rot",))]),
        ("海滩“红车”", [Part("海滩红车", phrases=("红车",))]),
        ("海滩「红车」", [Part("海滩红车", phrases=("红车",))]),
        ("horse +\tstripes\n- dog", [Part("horse"), Part("stripes"), Part("dog", -1)]),
        (r"salt \+ pepper", [Part("salt + pepper")]),
        (r"\2:cat + \id:17", [Part("2:cat"), Part("id:17")]),
        (r"2:\3 dogs", [Part("3 dogs", 2)]),
        (r"say \"hi\"", [Part('say "hi"')]),
        (r'"say \"hi\""', [Part('say "hi"', phrases=('say "hi"',))]),
    ],
)
def test_what_is_written_is_read(written: str, parts: list[Part]) -> None:
    assert parse(written) == Query(*parts)
    assert parse(written.split(" ")) == Query(*parts)


@pytest.mark.parametrize(
    "words",
    [
        "e-mail",
        "C++",
        "-5°C outside",
        "a+b",
        "rock'n'roll",
        "12:30",
        "16:9 photo",
        "2: cat",
        "at 12:30 am",
        "10:10:10",
        "3:)",
        "red 2:cat",
        'a 12" record',
        "6'2\" man",
        "id:",
        "id:x",
        "my id:x",
        "~100 people",
        "and/or",
        "5 / 7",
        "C:",
        "a \\ b",
        "AC\\DC",
        "x.jpg",
        "see x.jpg",
        "...",
        "--debug",
        "--",
        "+1",
    ],
)
def test_what_only_resembles_the_language_is_words(words: str) -> None:
    assert text(parse(words)) == words


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("+", "nothing follows the \\+ at character 1 "),
        ("- + -", "two operators in a row at character 1 "),
        ("cat +", "nothing follows the \\+ at character 5 "),
        ("cat + - dog", "two operators in a row at character 5 "),
        ("cat - - dog", "two operators in a row at character 5 "),
        ('a "red car', "not closed at character 3 "),
        ("a “red car", "not closed at character 3 "),
        ('cat + ""', "nothing in it at character 7 "),
        ("cat + 0:dog", "weight .* at character 7 "),
        (f"{'9' * 400}:dog", "weight .* at character 1 "),
        ("id:0", "no item has the id 0"),
        (f"id:{'9' * 5000}", "no item has the id"),
        ("a dog id:17", "beside words at character 7 "),
        ("id:17 id:18", "beside words at character 1 "),
        ("http://127.0.0.1/a.jpg and a dog", "beside words at character 1 "),
    ],
)
def test_what_is_not_well_formed_is_refused_with_the_place(written: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse(written)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


# Pictures


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("pool.jpg", "my photo.jpg", "a + b.jpg", "sub/2.png", '5" - "x.jpg'):
        if os.name == "nt" and '"' in name:
            continue
        write_picture(tmp_path / name, 1)
    (tmp_path / "notes.txt").write_text("cat\n")
    return tmp_path


def picture(path: str | Path, weight: float = 1.0) -> Part:
    return Part(Image(Path(path)), weight)


@pytest.mark.parametrize("spelt", ["{}", "./{}", "sub/../{}", "{here}/{}", "~/{}"])
def test_an_existing_picture_is_a_picture(here: Path, spelt: str) -> None:
    path = spelt.format("pool.jpg", here=here)
    found = Path(path).expanduser()
    assert parse(path) == parse([path]) == Query(picture(found))
    assert parse(f"2:golden retriever + {path}") == Query(
        Part("golden retriever", 2), picture(found)
    )
    assert parse(["dog", "-", f"0.5:{path}"]) == Query("dog", picture(found, -0.5))


def test_a_path_with_spaces_is_one_picture(here: Path) -> None:
    assert parse("./my photo.jpg + dog") == Query(picture("my photo.jpg"), "dog")
    assert parse("dog - 2:my photo.jpg") == Query("dog", picture("my photo.jpg", -2))
    assert parse(["my photo.jpg", "+", "dog"]) == Query(picture("my photo.jpg"), "dog")


def test_a_word_of_the_command_line_that_is_a_picture_is_not_read(here: Path) -> None:
    assert parse(["a + b.jpg"]) == parse("a + b.jpg") == Query(picture("a + b.jpg"))
    assert parse(["2:a + b.jpg", "-", "dog"]) == Query(picture("a + b.jpg", 2), Part("dog", -1))
    assert parse("a + b.jpg - dog") == Query("a", "b.jpg", Part("dog", -1))


def test_words_of_the_command_line_are_joined_and_read(here: Path) -> None:
    assert parse(["horse + stripes"]) == parse(["horse", "+", "stripes"])
    assert parse(["a", "red car", "-", "dog"]) == parse("a red car - dog")
    assert parse(['"red', 'car"']) == parse('"red car"')


@pytest.mark.parametrize(
    "path", ["./nope.jpg", "../nope", "/no/such", "~/nope.jpg", "C:\\no\\x.jpg", "\\\\no\\x\\y.jpg"]
)
def test_what_is_written_like_a_path_and_is_not_there_is_an_error(here: Path, path: str) -> None:
    for written in (path, f"dog + 2:{path}", [path], f"{path} here"):
        with pytest.raises(SourceError, match=f"{re.escape(path)}.*: no such picture.*quote"):
            parse(written)
    assert text(parse(path, literal=True)) == path
    assert text(parse(path, pictures=False)) == path


def test_a_file_that_is_no_picture_is_an_error_only_where_a_path_is_written(here: Path) -> None:
    with pytest.raises(SourceError, match="is no picture"):
        parse("./notes.txt")
    assert text(parse("notes.txt")) == "notes.txt"


@pytest.mark.parametrize(
    "written",
    ["pool.jpg dog", "dog pool.jpg", "./pool.jpg dog", ["dog", "pool.jpg"], ["a + b.jpg", "x"]],
)
def test_a_picture_beside_words_needs_an_operator(here: Path, written: str | Sequence[str]) -> None:
    with pytest.raises(UsageError, match=r"beside words .*write \+ or -"):
        parse(written)


def test_quoted_and_escaped_names_of_pictures_are_words(here: Path) -> None:
    assert parse('"./pool.jpg"') == Query(Part("./pool.jpg", phrases=("./pool.jpg",)))
    assert text(parse(r"a dog \pool.jpg")) == "a dog pool.jpg"


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.jpg", "https://x.org/a?b=c", "file:///a.jpg"])
def test_a_url_is_a_picture(url: str) -> None:
    assert parse(f"0.5:{url} + dog") == Query(Part(Image(url), 0.5), "dog")


def test_without_pictures_no_file_is_looked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(path: object) -> bool:
        raise AssertionError(f"looked for {path}")

    monkeypatch.setattr(os.path, "isfile", looked)
    for words in ("pool.jpg", "./pool.jpg", "/etc/passwd", "file:///a.jpg", "http://x.org/a.jpg"):
        assert text(parse(words, pictures=False)) == words
        assert text(parse([words], pictures=False)) == words
    with pytest.raises(AssertionError):
        parse("pool.jpg")


# What holds for every query

PIECES = st.one_of(
    st.sampled_from(
        [
            *'"“”„«»「」\\+- ,.()\n/:',
            *("  ", "\\\\", " + ", " - ", "2:", "0.5:", "-3:", "id:7", "id:", "./x", "~/", "C:\\x"),
            *("a.jpg", ".jpg", "http://x", "\\\\s\\t", '12"', "cat", "dog", "people", "a", "or"),
            *(
                "without",
                "no",
                "not",
                "but",
                "and",
                "with",
                "ohne",
                "sans",
                "pas d'",
                "bez",
                "بدون",
            ),
            *("没有", "人", "的", "海滩", "无", "不是", "sign", "İ", "½"),
        ]
    ),
    st.text(max_size=4),
)
WRITTEN = st.lists(PIECES, max_size=12).map("".join)
SPACED = st.lists(PIECES, max_size=12).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(WRITTEN | SPACED, st.booleans(), st.booleans())
def test_whatever_is_written_is_read_or_refused_and_can_be_written_again(
    written: str, negation: bool, pictures: bool
) -> None:
    try:
        query = parse(written, negation=negation, pictures=pictures)
    except (UsageError, SourceError):
        return
    again = unparse(query)
    assert parse(again, pictures=pictures) == query
    assert all(part.said is None for part in parse(again, pictures=pictures).parts)
    explanation = explain_query(query)
    assert explanation.written == again
    assert len(explanation.to_dict()["parts"]) == len(query.parts) <= len(explanation.lines())


@settings(max_examples=200, deadline=None)
@given(st.lists(WRITTEN, max_size=5), st.booleans())
def test_whatever_words_a_command_line_has_are_read_or_refused(
    words: list[str], pictures: bool
) -> None:
    try:
        query = parse(words, pictures=pictures)
    except (UsageError, SourceError):
        return
    assert query == parse(" ".join(words), pictures=pictures)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    content = draw(WRITTEN.map(str.strip).filter(bool))
    bounds = sorted(draw(st.lists(st.integers(0, len(content)), max_size=4, unique=True)))
    quoted = (content[a:b].strip() for a, b in zip(bounds[::2], bounds[1::2], strict=False))
    weight = draw(
        st.sampled_from([1.0, -1.0, 2.0])
        | st.floats(-1e300, 1e300).filter(lambda weight: weight != 0)
    )
    return Part(content, weight, phrases=tuple(filter(None, quoted)))


@settings(max_examples=150, deadline=None)
@given(st.lists(parts() | st.integers(1, 2**63 - 1).map(Item), min_size=1, max_size=3))
def test_whatever_was_composed_can_be_written_and_read(given_parts: list[Part | Item]) -> None:
    query = Query(*given_parts)
    assert parse(unparse(query)) == query


@given(WRITTEN.filter(str.strip))
def test_a_literal_query_is_one_text(written: str) -> None:
    assert parse(written, literal=True) == Query(written)
    assert parse(written.split(" "), literal=True) == Query(written)


@given(WRITTEN, st.sampled_from(sorted(CLOSERS)))
def test_what_is_quoted_is_literal(written: str, mark: str) -> None:
    inner = re.sub(rf"\\|{'|'.join(CLOSERS[mark])}", "", written).strip()
    if inner:
        assert parse(mark + inner + CLOSERS[mark][0]) == Query(Part(inner, phrases=(inner,)))


@settings(max_examples=200, deadline=None)
@given(SPACED.filter(str.strip), st.booleans())
def test_the_short_way_of_plain_queries_reads_the_same(written: str, negation: bool) -> None:
    outcomes = []
    for reading in (
        lambda: parse(written, negation=negation, pictures=False),
        lambda: read([written], negation, False),
    ):
        try:
            outcomes.append(reading())
        except UsageError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    if negations(written).negations:
        assert might_negate(written)


def test_reading_a_plain_query_loads_nothing_that_reads_others() -> None:
    code = (
        "import sys; from xsearch import parse; parse('a cat on grass, sleeping')\n"
        "print(*[name for name in sys.modules if name.startswith('xsearch.retrieval.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"xsearch.retrieval.language", "xsearch.retrieval.plain"}


# Writing and explaining


def test_pictures_and_items_can_be_written_and_read(here: Path) -> None:
    query = Query(
        Part(Image(Path("my photo.jpg")), 0.5),
        Part(Image(here / "sub" / "2.png"), -1.0),
        Image("https://x.org/a.jpg"),
        Item(17),
    )
    assert parse(unparse(query)) == query


def test_a_picture_with_odd_characters_in_its_name_is_written_as_a_url(here: Path) -> None:
    (part,) = parse(unparse(Query(Image(Path("a + b.jpg"))))).parts
    assert part == Part(Image((here / "a + b.jpg").as_uri()))


def test_a_picture_that_is_no_file_cannot_be_written_but_explained() -> None:
    query = Query(Image(b"123")) - "dog"
    with pytest.raises(UsageError, match="no file"):
        unparse(query)
    explanation = explain_query(query)
    assert explanation.written is None
    assert explanation.lines()[0] == "+1  picture (no file)"


def test_an_explanation_says_what_was_subtracted_and_how_to_switch_that_off() -> None:
    explanation = explain_query(parse('2:beach without "red cars" - id:17'))
    assert explanation.lines()[:3] == [
        '+2  words "beach"',
        '-1  words "red cars"  (with the phrase "red cars")  (subtracted by "without")',
        "-1  item 17",
    ]
    assert all(way in explanation.lines()[3] for way in ("--no-negation", "--literal", "quotation"))
    assert explanation.lines()[4] == 'The same: 2:beach - "red cars" - id:17'
    assert explanation.to_dict() == {
        "parts": [
            {"weight": 2.0, "kind": "text", "text": "beach"},
            {
                "weight": -1.0,
                "kind": "text",
                "text": "red cars",
                "phrases": ["red cars"],
                "said": "without",
            },
            {"weight": -1.0, "kind": "item", "id": 17},
        ],
        "written": '2:beach - "red cars" - id:17',
        "joined": False,
    }


def test_the_explanation_of_a_plain_query_is_one_line() -> None:
    assert explain_query(parse("cat on grass")).lines() == ['+1  words "cat on grass"']


def test_the_language_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "queries.md").read_text(encoding="utf-8")
    examples = re.findall(
        r"^\| `` (.+?) `` \| (.+?) \|$|^\| `([^`]+)` \| (.+?) \|$", page, re.MULTILINE
    )
    assert len(examples) > 10
    for first, _, second, _ in examples:
        written = first or second
        if "jpg" not in written and "http" not in written:
            assert parse(written.replace("\\|", "|")).parts
    assert xsearch.parse is parse
