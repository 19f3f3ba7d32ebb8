"""Models of open_clip in torch: their networks, tokenizers and preprocessing, and the encoder."""
