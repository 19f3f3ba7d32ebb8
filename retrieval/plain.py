"""Tells plain words from what needs reading, without loading what reads it: most queries are plain.

A word of each phrase of `negation_words` is here again, since loading those takes longer than all
else that happens to a query's words.
"""

from __future__ import annotations

MASK = "\ue000"
"""Stands for each character of a text that was quoted or escaped: it cannot negate."""


def words(text: str) -> frozenset[str]:
    """The words of a list that is written with spaces."""
    return frozenset(text.split())


NEGATING = words(
    "without free except excluding no not ohne frei außer ausser ausgenommen kein keine keinen "
    "keinem keiner keines nicht sans pas aucun aucune sauf hormis excepté bez beze není nejsou "
    "nemá nemají žádný žádná žádné žádní žádného žádnou žádných żaden żadna żadne kromě vyjma "
    "oprócz výjimkou ne nie بدون وبدون بلا وبلا غير دون ودون بغير خالي خال خالية ليس ليست وليس "
    "وليست يوجد توجد باستثناء عدا ماعدا senza sem sin zonder geen utan uden uten без"
)
"""Of each phrase that negates a word, but of those with an apostrophe: they are not plain."""
NEGATING_CHINESE = frozenset("没沒无無不除并並")
_STRETCH = "\u0640"


def is_plain(text: str) -> bool:
    """Whether a query has nothing but letters, digits, commas and spaces."""
    return "".join(text.replace(",", " ").split()).isalnum() and _STRETCH not in text


def might_negate(text: str) -> bool:
    """Whether a text may have words of negation: False is certain."""
    if not is_plain(text):
        return True
    if not NEGATING_CHINESE.isdisjoint(text):
        return True
    return not NEGATING.isdisjoint(text.lower().replace(",", " ").split())


def is_han(character: str) -> bool:
    """Whether a character is one of Chinese's."""
    return "\u4e00" <= character <= "\u9fff"
