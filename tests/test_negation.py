"""Words of negation, as in "beach without people": which subtract, and which only resemble them."""

from __future__ import annotations

import pytest

from xsearch import Part, Query, parse
from xsearch.retrieval.grammar import NEGATED_WEIGHT
from xsearch.retrieval.negation_words import LANGUAGES
from xsearch.retrieval.plain import NEGATING


def text(query: Query) -> str:
    """The text of a query that is one literal text."""
    (part,) = query.parts
    assert isinstance(part.content, str) and part.weight == 1.0
    return part.content


NEGATED = [
    # What is said, what is looked for, what is subtracted, by which word.
    ("beach without people", "beach", ["people"], "without"),
    ("beach without any people", "beach", ["people"], "without"),
    ("beach without people or dogs", "beach", ["people", "dogs"], "without"),
    ("beach without people and dogs", "beach", ["people", "dogs"], "without"),
    ("street without people, cars, or dogs", "street", ["people", "cars", "dogs"], "without"),
    ("beach without people at sunset", "beach at sunset", ["people"], "without"),
    ("beach without people, sunset", "beach, sunset", ["people"], "without"),
    ("beach without people with a dog", "beach with a dog", ["people"], "without"),
    ("a room without windows and a red door", "a room and a red door", ["windows"], "without"),
    ("man without hat and smiling", "man and smiling", ["hat"], "without"),
    ("a dog without leash running on grass", "a dog running on grass", ["leash"], "without"),
    ("a yard without a swimming pool", "a yard", ["a swimming pool"], "without"),
    ("a street without a tall building", "a street", ["a tall building"], "without"),
    ("BEACH WITHOUT PEOPLE", "BEACH", ["PEOPLE"], "WITHOUT"),
    ("a dog but no leash", "a dog", ["leash"], "but no"),
    ("street with no cars", "street", ["cars"], "with no"),
    ("forest and no snow", "forest", ["snow"], "and no"),
    ("beach no people", "beach", ["people"], "no"),
    ("beach, no people, sunset", "beach, sunset", ["people"], "no"),
    ("beach (no people) at night", "beach at night", ["people"], "no"),
    ("a dog, not a cat", "a dog", ["a cat"], "not"),
    ("a beach but not crowded", "a beach", ["crowded"], "not"),
    ("animals except dogs", "animals", ["dogs"], "except"),
    ("a road free of traffic", "a road", ["traffic"], "free of"),
    ("a room that has no windows", "a room", ["windows"], "that has no"),
    ("Strand ohne Menschen", "Strand", ["Menschen"], "ohne"),
    (
        "Strand ohne Menschen oder Hunde im Winter",
        "Strand im Winter",
        ["Menschen", "Hunde"],
        "ohne",
    ),
    ("Strand, keine Menschen", "Strand", ["Menschen"], "keine"),
    ("Hund, aber keinen Zaun", "Hund", ["Zaun"], "keinen"),
    ("ein Hund, nicht eine Katze", "ein Hund", ["eine Katze"], "nicht"),
    ("alle Tiere außer Hunden", "alle Tiere", ["Hunden"], "außer"),
    ("plage sans personne", "plage", ["personne"], "sans"),
    ("plage sans gens ni chiens en hiver", "plage en hiver", ["gens", "chiens"], "sans"),
    ("rue sans voitures au soleil", "rue au soleil", ["voitures"], "sans"),
    ("plage, pas de gens", "plage", ["gens"], "pas de"),
    ("une rue mais pas d’arbres", "une rue", ["arbres"], "pas d’"),
    ("ciel avec aucun nuage", "ciel", ["nuage"], "aucun"),
    ("plage où il n'y a pas d'arbres", "plage", ["arbres"], "où il n'y a pas d'"),
    ("pláž bez lidí", "pláž", ["lidí"], "bez"),
    ("pláž bez lidí a psů při západu slunce", "pláž při západu slunce", ["lidí", "psů"], "bez"),
    ("ulice, žádná auta", "ulice", ["auta"], "žádná"),
    ("pes, ale ne kočka", "pes", ["kočka"], "ne"),
    ("شاطئ بدون ناس", "شاطئ", ["ناس"], "بدون"),
    ("شاطئ بِدون ناس", "شاطئ", ["ناس"], "بِدون"),
    ("شاطئ بلا ناس أو كلاب عند الغروب", "شاطئ عند الغروب", ["ناس", "كلاب"], "بلا"),
    ("شارع من غير سيارات", "شارع", ["سيارات"], "من غير"),
    ("كلب وليس قطة", "كلب", ["قطة"], "وليس"),
    ("海滩没有人", "海滩", ["人"], "没有"),
    ("没有人的海滩", "海滩", ["人"], "没有"),
    ("没有人和狗的海滩", "海滩", ["人", "狗"], "没有"),
    ("无人的海滩", "海滩", ["人"], "无"),
    ("海滩，没有人，日落", "海滩，日落", ["人"], "没有"),
    ("不戴帽子的男人", "男人", ["帽子"], "不戴"),
    ("一条狗，不是猫", "一条狗", ["猫"], "不是"),
    ("除了狗以外的动物", "动物", ["狗"], "除了"),
    ("沙灘沒有人", "沙灘", ["人"], "沒有"),
    ("playa sin gente", "playa", ["gente"], "sin"),
    ("spiaggia senza persone al tramonto", "spiaggia al tramonto", ["persone"], "senza"),
    ("praia sem pessoas", "praia", ["pessoas"], "sem"),
    ("plaża bez ludzi w zimie", "plaża w zimie", ["ludzi"], "bez"),
    ("strand zonder mensen", "strand", ["mensen"], "zonder"),
    ("strand utan folk", "strand", ["folk"], "utan"),
    ("пляж без людей", "пляж", ["людей"], "без"),
]


@pytest.mark.parametrize(("said", "wanted", "unwanted", "word"), NEGATED)
def test_a_word_of_negation_subtracts(
    said: str, wanted: str, unwanted: list[str], word: str
) -> None:
    query = parse(said)
    assert query == Query(wanted, *(Part(each, NEGATED_WEIGHT) for each in unwanted))
    assert {part.said for part in query.parts[1:]} == {word}
    assert text(parse(said, negation=False)) == said


FALSE_FRIENDS = """
no people
without people
no parking sign
no smoking
a wall with no smoking sign
street with no entry sign
a sign, no dogs
page not found
chanel no. 5
no. 5
nothing
the nothing box
tonari no totoro
cachorro no sofá
doctors without borders
Rebel Without a Cause
a rebel without a cause
with or without you
coffee with or without milk
without doubt the best
No Man's Sky
James Bond Dr No poster
this is not a pipe
a small but not tiny dog
everything except dogs
everyone but nobody
knot and note
a beach, no problem
free of charge
kein Problem
keine Ahnung
ein Schild, kein Hund
Ärzte ohne Grenzen
mit oder ohne Milch
oben ohne
Tür außer Betrieb
sans-serif
police sans serif
comic sans
San Francisco
souris sans fil
traces de pas dans la neige
pas de deux
danseurs, pas de deux
le pas de la porte
avec ou sans sucre
sain et sauf
bez
černý bez
kvetoucí bez na zahradě
fialový bez a růže
člověk bez domova
žádný problém
بدون شك
صورة بدون شك جميلة
أطباء بلا حدود
بلاد جميلة
无锡
无锡的照片
无人机
无人机的照片
无花果
没有关系
没有人
有没有人
他还没有吃
没打开的门
沉没的船
是不是猫
original sin painting
sin city
orang utan
orang utan baby
pollen sem image
人のいない海
""".strip().splitlines()


@pytest.mark.parametrize("words", FALSE_FRIENDS)
def test_what_only_resembles_a_negation_is_words(words: str) -> None:
    assert text(parse(words)) == words


def test_quoted_and_escaped_words_do_not_negate() -> None:
    assert len(parse('"beach without people"').parts) == 1
    assert len(parse('beach "without" people').parts) == 1
    assert text(parse(r"beach \without people")) == "beach without people"
    assert parse('beach without "red cars"') == Query(
        "beach", Part("red cars", NEGATED_WEIGHT, phrases=("red cars",))
    )
    assert parse('"a b" without "c d" at night').parts[0] == Part("a b at night", phrases=("a b",))


def test_a_negation_counts_by_the_weight_of_its_part() -> None:
    assert parse("2:beach without people + dog") == Query(
        Part("beach", 2), Part("people", 2 * NEGATED_WEIGHT), "dog"
    )


def test_what_is_subtracted_is_not_read_for_negation() -> None:
    assert parse("horse - beach without people") == Query("horse", Part("beach without people", -1))


def test_several_negations_in_one_text_all_subtract() -> None:
    query = parse("beach without people and no dogs, not crowded")
    assert [(part.content, part.said) for part in query.parts] == [
        ("beach", None),
        ("people", "without"),
        ("dogs", "and no"),
        ("crowded", "not"),
    ]


def test_long_texts_are_passages_and_not_read_for_negation() -> None:
    passage = "a passage about a beach without people " * 50
    assert text(parse(passage)) == passage.strip()


def test_every_word_of_negation_is_noticed() -> None:
    for language in LANGUAGES:
        for negator in language.negators:
            for phrase in negator.phrases:
                assert not NEGATING.isdisjoint(phrase) or any("'" in word for word in phrase), (
                    phrase
                )
