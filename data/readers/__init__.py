"""Readers of image-text data sets, each into the same records."""
