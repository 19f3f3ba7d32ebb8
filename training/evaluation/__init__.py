"""Measuring encoders: retrieval, zero-shot classification, captions. Needs no torch."""
