"""The leaf room: errors, values, the encoder contract, decoding and hashing. Imports no other."""
