"""The words of negation of languages that write spaces, and what tells them from set phrases."""

from __future__ import annotations

from typing import NamedTuple

from .plain import words as _words

Words = frozenset[str]


class Negator(NamedTuple):
    """Words that negate what follows them, and when they do.

    `phrases` are one or several words each. They count only after a joining word or a mark, such
    as the comma of "beach, no people", where they are `joined`; only before words of `before`,
    where there are some; only where what is negated ends in a word of `ending`, likewise. They
    do not count after a word of `not_after`, nor before one of `not_before`, whatever articles
    are between. `signs` says that in a text about a sign they are its inscription; `describing`
    that they negate adjectives, too, as in "small but not tiny dogs", which subtracts no dogs.
    """

    phrases: tuple[tuple[str, ...], ...]
    joined: bool = False
    before: Words = frozenset()
    ending: Words = frozenset()
    not_after: Words = frozenset()
    not_before: Words = frozenset()
    signs: bool = False
    describing: bool = False


class Language(NamedTuple):
    """The words of a language that the reading of a negation needs.

    `joiners` come before a negation and go with it. `stops` end what is negated, and what they
    begin is not. `ors` join things that are all negated; `ands` do where the things are alike.
    `fillers` are left out at the beginning of what is negated. `empty` words do not say what is
    looked for. `signs` carry inscriptions. Words with the ending `doing`, other than `things`, say
    what something does, as in "dog without leash running on grass", and end what is negated.
    """

    negators: tuple[Negator, ...]
    joiners: Words
    stops: Words
    ors: Words
    ands: Words
    articles: Words
    fillers: Words
    empty: Words
    signs: Words = frozenset()
    doing: str = ""
    things: Words = frozenset()


def _phrases(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(phrase.split()) for phrase in text.split(","))


_AFTER_NO = _words(
    "parking smoking entry entrance exit trespassing stopping standing waiting swimming diving "
    "fishing hunting camping littering dumping loitering vaping drinking eating cycling skating "
    "skateboarding photography turn turns u-turn left right overtaking passing access admittance "
    "vacancy vacancies way problem problems doubt idea matter longer more less one body man's "
    "surprise wonder other than such thanks thank good go deal limit limits fear fears pain gain "
    "regrets name names use need reason comment results found not yes please joke luck zero two "
    "three four five six seven eight nine ten"
)
_AFTER_NOT = _words(
    "only just yet sure found all always so very too really much many available allowed working "
    "responding recommended safe long far good enough necessarily even quite clue chance word"
)

_ENGLISH = Language(
    negators=(
        Negator(
            _phrases("without, free of, free from"),
            not_before=_words(
                "doubt question fail end borders limit limits warning cause trace exception delay "
                "saying notice regard me you him her us them it charge"
            ),
        ),
        Negator(
            _phrases("except, except for, excluding"),
            not_before=_words("that when if as by this me you him her us them it"),
        ),
        Negator(
            _phrases(
                "has no, have no, having no, that has no, that have no, who has no, who have no"
            ),
            not_before=_words("idea right choice reason place time fear name end"),
        ),
        Negator(
            _phrases("with no, but no, and no"),
            not_after=_words("yes"),
            not_before=_AFTER_NO,
            signs=True,
        ),
        Negator(
            _phrases("no"),
            not_after=_words(
                "or yes say says saying said dr doctor mr number nr opus op track chanel is are "
                "was were be there"
            ),
            not_before=_AFTER_NO,
            ending=_words(
                "people person persons human humans man men woman women boy boys girl girls kid "
                "kids child children baby crowd crowds tourists pedestrians face faces animal "
                "animals dog dogs cat cats bird birds horse horses car cars vehicle vehicles "
                "traffic truck trucks bike bikes boat boats building buildings house houses tree "
                "trees flower flowers leaves grass plants snow ice rain cloud clouds fog sun "
                "sunlight moon stars sky water waves shadow shadows light lights furniture window "
                "windows door doors roof fence wall walls text words writing watermark watermarks "
                "logo logos caption border frame background filter flash makeup beard glasses "
                "sunglasses hat hats helmet helmets shoes shirt clothes mask masks leash collar "
                "hair tail wings"
            ),
            signs=True,
        ),
        Negator(
            _phrases("not"),
            joined=True,
            not_before=_AFTER_NOT,
            describing=True,
        ),
        Negator(
            _phrases("not"),
            before=_words("a an any"),
            not_after=_words(
                "is are was were be been am do does did can could will would should may might must "
                "has have had it's that's why or if whether this these i we you they"
            ),
            not_before=_AFTER_NOT,
        ),
    ),
    joiners=_words("but with and or"),
    stops=_words(
        "with in on at near under over by beside besides behind above below from for through "
        "against around between inside outside into onto to during while when where that which who "
        "whose as before after beneath beyond across along among toward towards upon within next "
        "but is are was were has have had"
    ),
    ors=_words("or nor"),
    ands=_words("and &"),
    articles=_words("a an the his her their my your our its"),
    fillers=_words("any some"),
    empty=_words(
        "a an the this that these those there is are was were it its it's i you he she we they "
        "everything anything all nothing something someone anyone everyone one some any and or but "
        "with of on in at so to"
    ),
    signs=_words(
        "sign signs signage signboard symbol symbols zone zones notice poster placard sticker label"
    ),
    doing="ing",
    things=_words(
        "awning building ceiling clothing drawing duckling earring evening king lighting "
        "lightning morning painting railing ring scaffolding shading sling spring string stuffing "
        "swing thing wedding wiring wing writing"
    ),
)

_GERMAN = Language(
    negators=(
        Negator(
            _phrases("ohne, frei von"),
            not_before=_words(
                "zweifel ende weiteres gewähr grenzen worte mich dich ihn sie es uns euch sich "
                "ausnahme frage titel"
            ),
        ),
        Negator(
            _phrases("außer, ausser, ausgenommen"),
            not_before=_words(
                "betrieb dienst atem kontrolle sich haus reichweite gefahr acht rand form mir dir "
                "landes plan frage konkurrenz wenn dass"
            ),
        ),
        Negator(
            _phrases("kein, keine, keinen, keinem, keiner, keines"),
            not_after=_words(
                "der die das den dem ist sind war es gibt hat haben noch im oder sagt heißt zum"
            ),
            not_before=_words(
                "problem probleme plan ahnung sorge zutritt eingang ausgang durchgang einlass "
                "trinkwasser wendemöglichkeit winterdienst zugang zufahrt bock angst panik wunder "
                "ort mal fall zurück ding thema geld zeit lust scherz witz parken parkplatz "
                "rauchen durchfahrt einfahrt ausfahrt werbung von"
            ),
            signs=True,
        ),
        Negator(
            _phrases("nicht"),
            joined=True,
            not_before=_words(
                "nur mehr so sehr ganz rauchen gefunden weit immer genug stören füttern betreten "
                "anfassen berühren parken zu zuletzt"
            ),
            describing=True,
        ),
    ),
    joiners=_words("aber mit und doch sondern jedoch"),
    stops=_words(
        "in im am an ans auf bei beim unter unterm über vor vorm hinter neben zwischen mit aus von "
        "vom zu zum zur nach durch für gegen um während wenn als wo dass damit ist sind war hat "
        "haben trägt aber sondern doch jedoch bis seit entlang"
    ),
    ors=_words("oder noch bzw"),
    ands=_words("und sowie &"),
    articles=_words("ein eine einen einem einer eines der die das den dem des sein seine ihr ihre"),
    fillers=_words("jegliche jeglichen jeden jede irgendwelche irgendeine"),
    empty=_words(
        "ein eine einen der die das den es gibt ist sind war alles alle etwas jemand hier da dort "
        "und oder aber mit von hat ich du er sie wir dies dieser diese dieses das"
    ),
    signs=_words(
        "schild schilder zeichen symbol plakat aufkleber verkehrsschild verbotsschild hinweis"
    ),
)

_FRENCH = Language(
    negators=(
        Negator(
            _phrases("sans, sans aucun, sans aucune"),
            not_after=_words(
                "comic open noto gill pt fira source dm ms lucida nunito work plex ubuntu droid "
                "dejavu liberation free alegreya josefin product google merriweather exo clear"
            ),
            not_before=_words(
                "serif doute abri abris domicile papiers fil cesse titre nom frontières culotte "
                "culottes plomb gluten sucre alcool gêne faute fin souci soucis que moi toi lui "
                "elle nous vous eux elles cela ça contact terre emploi font problème limite "
                "limites"
            ),
        ),
        Negator(
            _phrases(
                "où il n' y a pas de, où il n' y a pas d', où il n' y a aucun, où il n' y a "
                "aucune, qui n' a pas de, qui n' a pas d', qui n' a aucun, qui n' a aucune, n' "
                "ayant pas de"
            ),
        ),
        Negator(
            _phrases("pas de, pas d', pas du, pas des"),
            joined=True,
            not_before=_words(
                "deux trois problème problèmes souci soucis chance panique quoi géant danse course "
                "tir porte vis calais loup souris côté doute raison"
            ),
        ),
        Negator(
            _phrases("pas"),
            joined=True,
            before=_words("un une le la les l' son sa ses"),
            not_before=_words("peu seul fois même moins"),
        ),
        Negator(
            _phrases("aucun, aucune"),
            not_after=_words("en d' dans à par sans ni ou"),
            not_before=_words(
                "problème souci idée doute cas de des autre intérêt rapport raison chance façon"
            ),
        ),
        Negator(
            _phrases("sauf, hormis, excepté, à l' exception de, à l' exception des"),
            not_after=_words("et"),
            not_before=_words("que si erreur moi toi lui cas quand"),
        ),
    ),
    joiners=_words("mais avec et"),
    stops=_words(
        "dans sur sous à au aux avec devant derrière près pendant en pour par contre entre chez "
        "qui que qu' où dont mais vers depuis lors quand comme est sont était ont a autour"
    ),
    ors=_words("ou ni"),
    ands=_words("et &"),
    articles=_words("un une des le la les l' son sa ses"),
    fillers=_words("aucun aucune"),
    empty=_words(
        "un une des le la les l' il elle on y a est sont c' ce cet cette ces tout tous toutes rien "
        "quelque chose et ou mais avec de d' ici je tu nous vous"
    ),
)

_CZECH_AND_POLISH = Language(
    negators=(
        Negator(
            # Also the elder and the lilac, which stand after their colours.
            _phrases("bez, beze"),
            not_after=_words(
                "černý červený bílý fialový kvetoucí voňavý divoký turecký šeřík růžový czarny "
                "biały fioletowy kwitnący pachnący lilak"
            ),
            not_before=_words(
                "černý kvetoucí kvete voní pochyby pochyb problému problémů ohledu názvu domova "
                "hranic konce mě tebe něj ní nich nás vás něho sebe výjimky kvetl kwitnący czarny "
                "wątpienia granic tytułu çanta bebek torba ayakkabı"
            ),
        ),
        Negator(
            _phrases(
                "kde není, kde nejsou, který nemá, která nemá, které nemá, kteří nemají, které "
                "nemají"
            ),
            not_before=_words("nic nikdo co kdo čas místo vidět"),
        ),
        Negator(
            _phrases("žádný, žádná, žádné, žádní, žádného, žádnou, žádných, żaden, żadna, żadne"),
            not_after=_words("v ve na v: není nejsou nemá je za pod"),
            not_before=_words(
                "problém problémy strach škoda div případě stres jiný jiná jiné z ze učený"
            ),
        ),
        Negator(
            _phrases("kromě, vyjma, oprócz, s výjimkou"),
            not_before=_words("toho jiného něj ní nich mě tebe tego"),
        ),
        Negator(
            _phrases("ne, nie"),
            joined=True,
            not_before=_words("jen jenom však tak moc úplně jako tylko bardzo"),
            describing=True,
        ),
    ),
    joiners=_words("ale však a i ani oraz"),
    stops=_words(
        "v ve na u pod nad za před při s se o po k ke ku do z ze mezi vedle během když kde který "
        "která které kteří že aby ale je jsou byl w we przy przed dla podczas gdy gdzie obok który "
        "jest są"
    ),
    ors=_words("ani nebo či lub albo"),
    ands=_words("a i oraz &"),
    articles=_words("ten ta to ti ty jeho její"),
    fillers=_words("jakéhokoli jakýchkoli jediného"),
    empty=_words(
        "ten ta to je jsou byl byla tu tady tam vše všechno něco někdo a i nebo ale s se na v jest "
        "są wszystko"
    ),
)

_ARABIC = Language(
    negators=(
        Negator(
            _phrases(
                "بدون, وبدون, بلا, وبلا, من غير, ومن غير, من دون, ومن دون, دون, ودون, بغير, خالي "
                "من, خال من, خالية من"
            ),
            not_after=_words("غير كان"),
            not_before=_words(
                "شك ريب حدود مأوى عنوان نهاية مقابل توقف استثناء جدوى إذن موعد سن المستوى كيشوت "
                "كيخوت كيخوته جوان كورليوني أن ان قصد"
            ),
        ),
        Negator(
            _phrases(
                "ليس فيه, ليس فيها, ليس به, ليس بها, ليس عليه, ليس عليها, لا يوجد فيه, لا يوجد "
                "فيها, لا يوجد به, لا يوجد بها, لا توجد فيه, لا توجد فيها, ليس لديه, ليس لديها"
            ),
            not_before=_words("شيء أحد ما"),
        ),
        Negator(
            _phrases("وليس, وليست, ولكن ليس, لكن ليس, ولا يوجد, ولا توجد"),
            not_before=_words("فقط مجرد كل هناك لدي له لها من"),
        ),
        Negator(
            _phrases("ليس, ليست"),
            joined=True,
            not_before=_words("فقط مجرد كل هناك لدي له لها من"),
        ),
        Negator(
            _phrases("باستثناء, ما عدا, ماعدا, فيما عدا"),
            not_before=_words("ذلك هذا أن"),
        ),
    ),
    joiners=_words("و لكن ولكن أو"),
    stops=_words(
        "في على تحت فوق أمام خلف وراء بجانب قرب عند مع من إلى أثناء خلال بين حول التي الذي اللي "
        "وهو وهي لكن ولكن عن ومع وفي وعلى"
    ),
    ors=_words("أو او ولا"),
    ands=_words("و"),
    articles=frozenset(),
    fillers=_words("أي اي أية"),
    empty=_words("هذا هذه ذلك هناك كل شيء هو هي في من مع على و أو"),
)

# Spanish, Italian and Portuguese. English has its own "sin", so that what follows must be telling.
_SOUTHERN = Language(
    negators=(
        Negator(
            _phrases("senza, sem"),
            not_before=_words(
                "dubbio fine titolo tetto confini nome me te lui lei di dúvida teto terra fim "
                "título nome mim você ele ela que image images micrograph photo picture scan"
            ),
        ),
        Negator(
            _phrases("sin"),
            ending=_words(
                "gente personas persona hombres mujeres niños animales perros perro gatos gato "
                "pájaros coches coche autos carros tráfico edificios casas árboles flores hojas "
                "nieve lluvia nubes nube sol agua olas luces sombras texto letras fondo gafas "
                "sombrero sombreros gorra zapatos camisa barba pelo barcos turistas muebles "
                "ventanas"
            ),
        ),
    ),
    joiners=_words("pero ma mas con com y e"),
    stops=_words(
        "con com en em in su sul sulla nel nella na no nas nos al alla a ao à por per para sobre "
        "bajo sotto sob junto durante mientras mentre enquanto que che donde dove onde pero ma mas "
        "del dal es è é"
    ),
    ors=_words("o ni ou nem né"),
    ands=_words("y e &"),
    articles=_words("un una uno el la los las il lo gli le um uma os as"),
    fillers=_words("ninguna ningún nessuna nessun nenhum nenhuma"),
    empty=_words("un una el la los las il lo gli i um uma o os es è é todo tutto tudo y e de di"),
)

_DUTCH = Language(
    negators=(
        Negator(
            _phrases("zonder"),
            not_before=_words("twijfel titel einde grenzen mij jou hem haar dat"),
        ),
        Negator(_phrases("geen"), joined=True, not_before=_words("probleem idee toegang doorgang")),
    ),
    joiners=_words("maar met en"),
    stops=_words(
        "in op aan bij onder over voor achter naast tussen met uit van te tot naar door tegen om "
        "tijdens als waar die dat maar is zijn"
    ),
    ors=_words("of noch"),
    ands=_words("en &"),
    articles=_words("een de het"),
    fillers=_words("enige"),
    empty=_words("een de het er is zijn alles dit dat en of"),
)

_NORDIC = Language(
    negators=(
        Negator(
            _phrases("utan, uden, uten"),
            # The orang utan.
            not_after=_words("orang"),
            not_before=_words(
                "tvekan tvivl tvil titel tittel gränser grænser grenser mig dig att at"
            ),
        ),
    ),
    joiners=_words("men med och og"),
    stops=_words(
        "i på vid ved under över over bakom bak bag framför foran mellan mellem mellom med från "
        "fra till til genom gennem gjennom mot mod för for när når som där der men är er"
    ),
    ors=_words("eller"),
    ands=_words("och og &"),
    articles=_words("en ett et ei den det de"),
    fillers=_words("några nogen noen"),
    empty=_words("en ett et den det de är er allt alt och og"),
)

_RUSSIAN_AND_UKRAINIAN = Language(
    negators=(
        Negator(
            _phrases("без"),
            not_before=_words(
                "сомнения сомнений названия границ конца меня тебя него нее неё них нас вас "
                "сумніву назви меж"
            ),
        ),
    ),
    joiners=_words("но а и та і але"),
    stops=_words(
        "в во на у под над за перед при с со о по к ко до из от между около во время когда где "
        "который которая которое что но є з із зі під біля коли де який але"
    ),
    ors=_words("или ни або чи"),
    ands=_words("и і та й"),
    articles=frozenset(),
    fillers=frozenset(),
    empty=_words("это все всё что-то и или это то це усе"),
)

LANGUAGES = (
    _ENGLISH,
    _GERMAN,
    _FRENCH,
    _CZECH_AND_POLISH,
    _ARABIC,
    _SOUTHERN,
    _DUTCH,
    _NORDIC,
    _RUSSIAN_AND_UKRAINIAN,
)
