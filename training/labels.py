"""Fits how sharp the probabilities of labels are, on pictures whose captions say what is there.

A picture shows what a label names where most of its captions mention it, and does not where none
does; between the two it is left out. From a vocabulary of things that captions do mention, labels
are drawn at random, one to forty at once, so that what is fitted holds for any labels and any
number of them, and for pictures that show none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xsearch.core.encoder import LabelScale
from xsearch.retrieval.zero_shot import SHARE, Labels

Array = NDArray[np.float32]

WORDS = {
    line.partition(":")[0]: frozenset(line.partition(":")[2].split())
    for line in """
dog: dog dogs puppy puppies
cat: cat cats kitten kittens kitty
horse: horse horses
bird: bird birds egret egrets seagull seagulls duck ducks pelican geese parrot
sheep: sheep lamb lambs
cow: cow cows cattle bull
elephant: elephant elephants
zebra: zebra zebras
giraffe: giraffe giraffes
bear: bear
goat: goat goats
baby: baby infant
beach: beach
snow: snow snowy snowboard snowboarder snowboarding ski skier skiing skis sled
mountain: mountain mountains mountaintop
forest: forest woods
river: river stream creek
lake: lake
sunset: sunset
fire: fire flames bonfire
flowers: flower flowers
swimming pool: pool pools
fountain: fountain fountains
playground: playground swing swings slide
trampoline: trampoline
bridge: bridge
tent: tent tents
bench: bench benches
bed: bed beds bedroom
kitchen: kitchen stove oven refrigerator
living room: living couch sofa
toilet: toilet toilets bathroom restroom
bicycle: bike bikes bicycle bicycles biker bikers bicyclist cyclist cyclists bmx
motorcycle: motorcycle motorcycles motorbike motorcyclist motocross
car: car cars
truck: truck trucks pickup
bus: bus buses
train: train trains locomotive
airplane: airplane airplanes plane planes jet aircraft
boat: boat boats kayak kayaks canoe raft kayaker ship sailboat rafting
skateboard: skateboard skateboarder skateboarding skateboards skateboarders
surfing: surf surfer surfing surfs surfboard surfers
soccer: soccer
basketball: basketball
baseball: baseball batter umpire
tennis: tennis
American football: football
hockey: hockey
frisbee: frisbee frisbees
rock climbing: climbing climber climbers climbs
wedding: bride groom wedding
guitar: guitar guitars guitarist
camera: camera cameras
computer: computer computers laptop laptops
phone: phone phones cellphone
clock: clock clocks
street sign: sign signs
umbrella: umbrella umbrellas
kite: kite kites
teddy bear: teddy
pizza: pizza pizzas
sandwich: sandwich sandwiches burger
cake: cake cakes
banana: banana bananas
vegetables: broccoli carrots carrot vegetables vegetable salad
wine: wine
""".strip().splitlines()
}
"""Labels, each with the words of captions that mention what it names."""
NUMBERS = (1, 2, 3, 5, 10, 20, 40)
"""How many labels are drawn at once."""
DRAWS = 30
SCALES = (1.0, 300.0)
"""Between these the best scale is looked for."""
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Some labels, and pictures that show one of them or none.

    `labels` are columns, `pictures` rows of the truth; `answers` (n,) are places in `labels`, or
    their number for none.
    """

    labels: NDArray[np.int64]
    pictures: NDArray[np.int64]
    answers: NDArray[np.int64]

    @property
    def weights(self) -> NDArray[np.float64]:
        """A weight for each picture, as if `SHARE` of them showed one of the labels."""
        some = self.answers < len(self.labels)
        count = max(int(some.sum()), 1), max(int((~some).sum()), 1)
        return np.where(some, SHARE / count[0], (1 - SHARE) / count[1])


def shown(captions: Sequence[Sequence[str]]) -> NDArray[np.int8]:
    """Which of `WORDS` each picture shows by its captions: 1, 0, or -1 where that is unclear."""
    found = np.zeros((len(captions), len(WORDS)), np.int8)
    for row, texts in enumerate(captions):
        words = [set(_WORD.findall(text.lower())) for text in texts]
        for column, mentions in enumerate(WORDS.values()):
            count = sum(not mentions.isdisjoint(said) for said in words)
            found[row, column] = 1 if count and 2 * count > len(words) else -1 if count else 0
    return found


def choices(truth: NDArray[np.int8], draws: int = DRAWS, seed: int = 0) -> Iterator[Choice]:
    """Labels drawn at random, at least one of which some picture shows; the same for a seed."""
    random = np.random.default_rng(seed)
    there = np.flatnonzero((truth == 1).any(axis=0))
    if not len(there):
        return
    for number in NUMBERS:
        for _ in range(draws):
            first = random.choice(there)
            others = np.setdiff1d(np.arange(truth.shape[1]), first)
            labels = np.append(first, random.choice(others, number - 1, replace=False))
            part = truth[:, labels]
            clear = (part >= 0).all(axis=1) & ((part == 1).sum(axis=1) <= 1)
            pictures = np.flatnonzero(clear)
            true = part[pictures] == 1
            answers = np.where(true.any(axis=1), true.argmax(axis=1), number)
            if (answers < number).any() and (answers == number).any():
                yield Choice(labels, pictures, answers)


def surprise(labels: Labels, images: Array, drawn: Sequence[Choice]) -> float:
    """Mean negative log-probability, in nats, of the right answers; all draws count alike."""
    return _Logits.of(labels, images, drawn).surprise(labels.scale.margin)


@dataclass(frozen=True, slots=True, eq=False)
class _Logits:
    """What the answers to some draws rest on, but for the margin: arrays (n,) over all of them.

    `every` is the log of the summed odds of the labels, `right` that of the right one, or of none
    (where `some` is False), against which labels are weighed.
    """

    every: NDArray[np.float64]
    right: NDArray[np.float64]
    some: NDArray[np.bool_]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, labels: Labels, images: Array, drawn: Sequence[Choice]) -> _Logits:
        evidence = labels.evidence(images).astype(np.float64) + labels.scale.margin
        parts = []
        for choice in drawn:
            number = len(choice.labels)
            logits = evidence[choice.pictures][:, choice.labels] + np.log(SHARE / number)
            highest = logits.max(axis=1)
            every = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
            some = choice.answers < number
            place = np.where(some, choice.answers, 0)[:, None]
            right = np.take_along_axis(logits, place, axis=1)[:, 0]
            right = np.where(some, right, np.log(1 - SHARE))
            parts.append((every, right, some, choice.weights / len(drawn)))
        every, right, some, weights = map(np.concatenate, zip(*parts, strict=True))
        return cls(every, right, some, weights)

    def surprise(self, margin: float) -> float:
        total = np.logaddexp(self.every - margin, np.log(1 - SHARE))
        return float(self.weights @ (total - (self.right - margin * self.some)))


def fit_labels(
    labels: Labels, images: Array, captions: Sequence[Sequence[str]]
) -> LabelScale | None:
    """The scale and margin under which what captions say surprises least.

    `labels` are those of `WORDS`; images (n, dim), unit length, with the captions of each. None
    where no picture shows any of the labels, or every picture does.
    """
    drawn = list(choices(shown(captions)))
    if not drawn:
        return None

    def with_margin(log_scale: float) -> tuple[float, float]:
        """The least surprise for a scale, and the margin that gives it."""
        tried = replace(labels, scale=LabelScale(math.exp(log_scale)))
        logits = _Logits.of(tried, images, drawn)
        margin = _lowest(logits.surprise, -5.0, 10.0, 0.01)
        return logits.surprise(margin), margin

    lowest, highest = (math.log(scale) for scale in SCALES)
    best = _lowest(lambda log: with_margin(log)[0], lowest, highest, 0.002)
    return LabelScale(round(math.exp(best), 2), round(with_margin(best)[1], 2))


def _lowest(of: Callable[[float], float], low: float, high: float, exact: float) -> float:
    """Where a function with one valley is lowest, by golden sections."""
    golden = (5**0.5 - 1) / 2
    inner = [high - golden * (high - low), low + golden * (high - low)]
    found = [of(point) for point in inner]
    while high - low > exact:
        if found[0] < found[1]:
            high, inner[1], found[1] = inner[1], inner[0], found[0]
            inner[0] = high - golden * (high - low)
            found[0] = of(inner[0])
        else:
            low, inner[0], found[0] = inner[0], inner[1], found[1]
            inner[1] = low + golden * (high - low)
            found[1] = of(inner[1])
    return (low + high) / 2
