"""Trains rerankers: networks, hard negatives, the loop, export."""
