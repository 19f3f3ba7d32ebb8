"""A made-up world for composition: simple scenes, true captions, and captions almost true.

Whether a model knows *which* thing is red and *which* is above is asked with pictures of coloured
shapes whose captions are generated, as CLEVR (Johnson et al. 2017) and ShapeWorld (Kuhnle and
Copestake 2017) do. Each wrong caption differs minimally from a true one and is checked to be false;
its words are mostly true of something in the scene, so that words alone never tell. Some pairs of
colour and shape, and some relations between shapes, are never met in training.
"""

from xsearch.data.scenes.claims import Mention, Statement
from xsearch.data.scenes.making import Scene, scene
from xsearch.data.scenes.world import (
    COLOURS,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    SHAPES,
    SIZES,
    SPLITS,
    Split,
    Thing,
)
from xsearch.data.scenes.wrongs import KINDS, Kind, Wrong

__all__ = [
    "COLOURS",
    "HELD_OUT_PAIRS",
    "HELD_OUT_RELATIONS",
    "KINDS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Kind",
    "Mention",
    "Scene",
    "Split",
    "Statement",
    "Thing",
    "Wrong",
    "scene",
]
