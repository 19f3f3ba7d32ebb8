"""The towers of the built-in encoder: EfficientNet-Lite2 with its batch norms folded in, BERT."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xsearch.core.extras import require
from xsearch.retrieval.encoders.clip.network import Pixels
from xsearch.retrieval.encoders.pictures import Preparation
from xsearch.retrieval.encoders.texts import cutting

from .bert import Bert, BertConfig
from .image import LITE, LITE_MEAN, LITE_STD
from .parts import ImageTower, TextTower

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ARCHITECTURE = "efficientnet-lite2"
FROZEN = 15
"""Blocks that stay as ImageNet made them; what they say of a picture is computed once."""
FINER = (3, 6, 10)
"""The blocks, last or late of those at strides 4, 8 and 16, that regions show beside the last one:
colours and outlines, of which that knows less."""
FLOOR = 1e-6
"""Added under the square root of pooled features, whose slope is infinite at 0."""
PIXELS = Pixels(Preparation(LITE[ARCHITECTURE][0]), (LITE_MEAN,) * 3, (LITE_STD,) * 3)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """TensorFlow's SAME: pixels added before and after (the odd one after), and the new size."""
    result = -(-size // stride)
    total = max((result - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, result


def around(maps: Tensor, side: int) -> Tensor:
    """Maps (n, C, s, s) averaged around the centre of each cell of a coarser one, (n, C, side,
    side), where s halved (rounded up) some times is `side`: convolutions of stride 2 lie so.
    """
    ratio = 2 ** round(math.log2(maps.shape[-1] / side))
    return functional.avg_pool2d(maps, ratio + 1, ratio, ratio // 2, count_include_pad=False)


class Convolution(nn.Module):
    """A convolution with its batch norm folded in, TensorFlow's SAME padding, and ReLU6."""

    def __init__(self, convolution: Any, norm: Any, *, clip: bool = True) -> None:
        super().__init__()
        gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
        self.weight = nn.Parameter(convolution.weight.detach() * gain[:, None, None, None])
        self.bias = nn.Parameter((norm.bias - norm.running_mean * gain).detach())
        self.stride = int(convolution.stride[0])
        self.groups = int(convolution.groups)
        self.clip = clip

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, C, s, s) to (n, C', s', s'), s' = ceil(s / stride)."""
        before, after, _ = same_padding(int(x.shape[-1]), self.weight.shape[-1], self.stride)
        if before == after:
            x = functional.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        else:
            x = functional.pad(x, (before, after, before, after))
            x = functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)
        return functional.relu6(x) if self.clip else x


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018) of EfficientNet-Lite: no squeeze-excitation."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        expands = hasattr(block, "_expand_conv")
        self.expand = Convolution(block._expand_conv, block._bn0) if expands else nn.Identity()
        self.depthwise = Convolution(block._depthwise_conv, block._bn1)
        self.project = Convolution(block._project_conv, block._bn2, clip=False)
        args = block._block_args
        same = args.stride == 1 and args.input_filters == args.output_filters
        self.residual = bool(args.id_skip and same)

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """`drop`: the share of pictures that skip the block (Huang et al. 2016), in training."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        if not self.residual:
            return y
        if drop:
            y = y * ((torch.rand(len(y), 1, 1, 1) >= drop).float() / (1 - drop))
        return y + x


class Backbone(nn.Module):
    """EfficientNet-Lite2 (Tan and Le 2019; Lite: Liu 2020), from the network of its package."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.stem = Convolution(tower._conv_stem, tower._bn0)
        self.blocks = nn.ModuleList(Block(block) for block in tower._blocks)
        self.last = Convolution(tower._conv_head, tower._bn1)
        self.classifier = tower._fc

    def frozen(self, planes: Tensor) -> Tensor:
        """Scaled planes (n, 3, S, S) to the map after the first `FROZEN` blocks."""
        return self.frozen_and_finer(planes)[0]

    def frozen_and_finer(self, planes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same map, and those of the blocks `FINER`, (n, C, s, s) of different C and s."""
        x = self.stem(planes.contiguous(memory_format=torch.channels_last))
        finer = []
        for number, block in enumerate(list(self.blocks)[:FROZEN]):
            x = block(x)
            if number in FINER:
                finer.append(x)
        return cast(Tensor, x), finer

    def tail(self, x: Tensor, drop: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The other blocks. Returns pooled (n, 1280) and narrow (n, 352) features, class scores
        (n, 1000), and the last block's map (n, 352, s, s). Later blocks are dropped more often.
        """
        blocks = list(self.blocks)[FROZEN:]
        for number, block in enumerate(blocks, 1):
            x = block(x, drop * number / len(blocks))
        pooled = self.last(x).mean((2, 3))
        return pooled, x.mean((2, 3)), self.classifier(pooled), x


class BuiltinImage(ImageTower):
    """The backbone, and its features (n, 1280 + 352 + d): pooled maps, and the ConSE vector.

    That is the mean of the class names' vectors (1000, d) by class probability (Norouzi et al.
    2014), less `conse_mean` (d,), times `text_weight` (d, d). `temperature` divides class scores,
    `narrow` weighs the last block's channels.
    """

    class_vectors: Tensor
    conse_mean: Tensor
    text_weight: Tensor

    def __init__(self, backbone: Backbone, dim: int, temperature: float, narrow: float) -> None:
        super().__init__()
        self.pixels = PIXELS
        self.backbone = backbone
        self.dim, self.temperature, self.narrow = dim, temperature, narrow
        classes, pooled = backbone.classifier.weight.shape
        self.register_buffer("class_vectors", torch.zeros(classes, dim))
        self.register_buffer("conse_mean", torch.zeros(dim))
        self.register_buffer("text_weight", torch.zeros(dim, dim))
        self.width = int(pooled + backbone.last.weight.shape[1] + dim)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """See `ImageTower`; regions are the last block's map beside finer ones, averaged."""
        frozen, finer = self.backbone.frozen_and_finer(planes)
        features, _, maps = self.tail(frozen)
        side = int(maps.shape[-1])
        maps = torch.cat([maps, *(around(each, side) for each in finer)], 1)
        return features, maps.flatten(2).transpose(1, 2)

    def tail(self, x: Tensor, drop: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Features, class scores and last block's map of `Backbone.frozen`'s output."""
        pooled, narrow, logits, maps = self.backbone.tail(x, drop)
        weights = torch.softmax(logits / self.temperature, 1)
        named = functional.normalize(weights @ self.class_vectors, dim=1)
        moved = (named - self.conse_mean) @ self.text_weight
        root = functional.normalize(torch.sqrt(pooled + FLOOR), dim=1)
        narrow = self.narrow * functional.normalize(narrow, dim=1)
        return torch.cat([root, narrow, functional.normalize(moved, dim=1)], 1), logits, maps

    def config(self) -> dict[str, Any]:
        """See `ImageTower`."""
        return {
            "kind": "builtin",
            "dim": self.dim,
            "temperature": self.temperature,
            "narrow": self.narrow,
            "pixels": self.pixels.config(),
        }

    @classmethod
    def restore(cls, config: dict[str, Any]) -> BuiltinImage:
        """Undo `config`, with random weights."""
        package = require("efficientnet_lite_pytorch", "train", ARCHITECTURE)
        backbone = Backbone(package.EfficientNet.from_name(ARCHITECTURE))
        return cls(backbone, config["dim"], config["temperature"], config["narrow"])


class BuiltinText(TextTower):
    """A BERT whose tokens are averaged over the text and scaled to unit length."""

    def __init__(self, bert: Bert, tokenizer: Tokenizer, context_length: int) -> None:
        super().__init__()
        self.bert = bert
        self.width = bert.config.width
        self.tokenizer = cutting(tokenizer, context_length)
        self.context_length = context_length

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `TextTower`."""
        tokens = self.bert(ids, mask)
        total = (tokens * mask[:, :, None].float()).sum(1)
        return functional.normalize(total, dim=1), tokens

    def config(self) -> dict[str, Any]:
        """See `TextTower`."""
        return {
            "kind": "builtin",
            "bert": asdict(self.bert.config),
            "context_length": self.context_length,
        }

    @classmethod
    def restore(cls, config: dict[str, Any], tokenizer: Tokenizer) -> BuiltinText:
        """Undo `config`, with random weights."""
        bert = Bert(BertConfig(**config["bert"]))
        return cls(bert, tokenizer, config["context_length"])
