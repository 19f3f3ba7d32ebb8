"""Cross-attention reranking: a text and a picture compared word by region."""

from .manifest import Blend, RerankerInfo
from .model import Explained, OnnxReranker

__all__ = ["Blend", "Explained", "OnnxReranker", "RerankerInfo"]
