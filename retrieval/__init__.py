"""Encoders and search: from a query to hits."""
