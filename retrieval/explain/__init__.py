"""Explanations of matches: which word of a text fits which part of a picture."""

from .match import explain_match

__all__ = ["explain_match"]
