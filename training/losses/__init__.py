"""Losses of contrastive training, one file each."""
