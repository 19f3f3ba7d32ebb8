"""FAISS indices: immutable segments of several kinds, derived from the vector store."""
