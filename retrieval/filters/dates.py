"""The moment at which a date in a person's words begins."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, timedelta
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

_ISO = re.compile(r"\d{4}|\d{8}(T.*)?|\d{4}-.*", re.DOTALL)
_DAYS = re.compile(r"(\d{4})(?:-(\d\d?)(?:-(\d\d?))?)?")

# Months in which seasons begin: those of meteorology, of the northern hemisphere.
_SEASONS = {
    3: "spring frühling frühjahr printemps",
    6: "summer sommer été",
    9: "autumn fall herbst automne",
    12: "winter hiver",
}
_MONTH_OF = {word: month for month, words in _SEASONS.items() for word in words.split()}
_PAST = {"last", "past", "previous", "letzten", "letzter", "letztes", "vergangenen", "dernier"}
_FILLERS = {"the", "in", "of", "this", "im", "diesen", "dieser", "dieses", "en", "l", "le", "cet"}

# What the library is asked in: the languages of the built-in encoder.
_LANGUAGES = ("en", "de", "fr", "cs", "ar", "zh")
# "1990s" would be seconds, "2024w3" weeks.
_GLUED = re.compile(r"\d{3,}[a-z]", re.IGNORECASE)
_POSSIBLE = '2024, 2024-06, 2024-06-15, 2024-06-15T18:30, "last summer", "3 weeks ago"'


def beginning(name: str, asked: str | date, now: datetime) -> datetime:
    """The first moment of a day, week (Monday), month, year or season; naive, as cameras write it.

    `name` is the filter's, for messages. Words that only a library knows ("yesterday", "vor drei
    Wochen") need the extra `dates`. A season is the latest that has begun, "last" the latest that
    is over, with a year that which begins in it.

    Raises:
        UsageError: it is no date, could be several, or has a time zone.
        MissingExtraError: the words need the extra.
    """
    if isinstance(asked, datetime):
        return _without_zone(name, str(asked), asked)
    if isinstance(asked, date):
        return datetime(asked.year, asked.month, asked.day)
    if not isinstance(asked, str):
        raise UsageError(f"{name}: {asked!r} is no date. Possible are {_POSSIBLE}")
    text = asked.strip()
    if not is_spoken(text):
        return _without_zone(name, asked, _from_iso(name, text))
    return _season(text, now) or _from_words(name, text, now)


def is_spoken(asked: str) -> bool:
    """Whether a date is in words, so that what they are taken for is worth telling."""
    return _ISO.fullmatch(asked.strip()) is None


def _from_iso(name: str, text: str) -> datetime:
    days = _DAYS.fullmatch(text)
    try:
        if days:
            return datetime(int(days[1]), int(days[2] or 1), int(days[3] or 1))
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_date(name, text) from error


def _season(text: str, now: datetime) -> datetime | None:
    plain = unicodedata.normalize("NFC", text.casefold())
    words = [word for word in re.findall(r"\w+", plain) if word not in _FILLERS]
    months = [_MONTH_OF[word] for word in words if word in _MONTH_OF]
    others = [word for word in words if word not in _MONTH_OF]
    if len(months) != 1 or len(others) > 1:
        return None
    begun = datetime(now.year, months[0], 1)
    if begun > now:
        begun = begun.replace(year=now.year - 1)
    if not others:
        return begun
    if others[0] in _PAST:
        # A season has three months, and winter ends in the next year.
        over = (begun + timedelta(days=100)).replace(day=1) <= now
        return begun if over else begun.replace(year=begun.year - 1)
    if re.fullmatch("[1-9][0-9]{3}", others[0]):
        return begun.replace(year=int(others[0]))
    return None


def _from_words(name: str, text: str, now: datetime) -> datetime:
    if _GLUED.search(text) or not re.search(r"[^\W\d_]|\d{4}", text):
        raise _no_date(name, text)
    parser = require("dateparser.date", "dates", f"reading {text!r} as a date")
    begins = {_ask(parser, name, text, now, order) for order in ("DMY", "MDY")}
    if len(begins) > 1:
        shown = " or ".join(sorted(f"{begin:%Y-%m-%d}" for begin in begins))
        raise UsageError(f"{name}: {text!r} could be {shown}: write which")
    return begins.pop()


def _ask(parser: Any, name: str, text: str, now: datetime, order: str) -> datetime:
    settings = {
        "RELATIVE_BASE": now,
        "PREFER_DATES_FROM": "past",
        "RETURN_TIME_AS_PERIOD": True,
        "DATE_ORDER": order,
        # Not the parsers of bare numbers.
        "PARSERS": ["relative-time", "absolute-time"],
    }
    found = parser.DateDataParser(languages=_LANGUAGES, settings=settings).get_date_data(text)
    if found.date_obj is None:
        raise _no_date(name, text)
    return _begin(_without_zone(name, text, found.date_obj), found.period)


def _begin(moment: datetime, period: str) -> datetime:
    if period == "time":
        return moment
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        return day - timedelta(days=day.weekday())
    months = {"year": 1, "quarter": moment.month - (moment.month - 1) % 3, "month": moment.month}
    return day.replace(month=months[period], day=1) if period in months else day


def _without_zone(name: str, shown: str, moment: datetime) -> datetime:
    if moment.tzinfo is not None:
        raise UsageError(
            f"{name}: {shown!r} has a time zone, but pictures go by the local time of their "
            "camera: leave it out"
        )
    return moment


def _no_date(name: str, text: str) -> UsageError:
    return UsageError(f"{name}: {text!r} is no date. Possible are {_POSSIBLE}")
