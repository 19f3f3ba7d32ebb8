"""Negation in Chinese, which writes no spaces, and negates before what it describes, too."""

from __future__ import annotations

import re
from functools import cache

Span = tuple[int, int]

# What is negated: a few characters, up to 的 or to what cannot go on it.
_THING = r"[^\s，,。；;：:！!？?、（）()“”的和或与與及跟但而也在没沒无無不时時]{1,8}?"
_OR = r"(?:和|或者|或|与|與|及|跟|、)"
_THINGS = rf"(?P<things>{_THING}(?:\s?{_OR}\s?{_THING})*)"
_MORE = r"(?=[\s，,。；;：:！!？?、（）()但而也在没沒无無不]|$)"
_JOIN = r"(?:[\s，,、；;（(]{0,3}(?:但是|但|而且|而|并且|並且|并|也)?\s?)"

# "Has no", unless it asks (有没有), says "not yet", or is "it does not matter", "did not eat".
_HAS_NO = (
    r"(?<![有从從还還并並都])(?:没有|沒有|不带|不帶|不含|不包含|不包括)"
    r"(?!关系|關係|问题|問題|办法|辦法|意思|意义|用处|什么|什麼|想|错|錯|完成|吃|看|去|来|來|被|说|說|"
    r"做|到|过|過|走|打开|打開|关|關|一点|那么|比|名字|标题|戴|穿|打)"
)
# "Not wearing": what is not worn is negated.
_WEARS_NO = r"(?:没有|沒有|没|沒|不)(?:戴|穿|带|帶|打(?!开|開|扫|掃|破|折))(?!走)"
# These begin many words of their own, such as 无锡 and 无人机: only before what is plain.
_NO = (
    r"(?<![有从從还還并並都淹沉埋])(?:没|沒|无|無)"
    r"(?=(?:行人|游客|遊客|人物|人|汽车|汽車|车辆|車輛|车|車|云|雲|雪|雾|霧|树|樹|建筑|建築|水印|文字|字|"
    r"灯光|燈光|阴影|陰影)\s?(?:的|[和或与與及、]|[，,。；;！!？?）)]|$))"
)
_NOT = r"(?<=[，,但而\s])(?:不是|并非|並非)(?!吗|嗎|因为|因為|很|只)"


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    negates = rf"(?P<said>{_HAS_NO}|{_WEARS_NO}|{_NO})\s?{_THINGS}\s?"
    return (
        re.compile(rf"{_JOIN}{negates}(?:的|{_MORE})"),
        re.compile(rf"{_JOIN}(?P<said>{_NOT})\s?{_THINGS}\s?{_MORE}"),
        re.compile(rf"(?P<said>除(?:了|去)?){_THINGS}(?:以外|之外|外)的"),
    )


def clauses(text: str) -> list[tuple[Span, Span, list[Span]]]:
    """The negations of a text, in order: what goes with each, what says so, what is negated."""
    found: list[tuple[Span, Span, list[Span]]] = []
    matches = [match for pattern in _patterns() for match in pattern.finditer(text)]
    end = 0
    for match in sorted(matches, key=lambda match: match.start()):
        if match.start() >= end:
            found.append((match.span(), match.span("said"), _things(text, *match.span("things"))))
            end = match.end()
    return found


def _things(text: str, start: int, end: int) -> list[Span]:
    """The things that an "or" or "and" joins."""
    spans: list[Span] = []
    begin = start
    for joint in re.finditer(rf"\s?{_OR}\s?", text[start:end]):
        spans.append((begin, start + joint.start()))
        begin = start + joint.end()
    return [*spans, (begin, end)]
