"""Scan, embed, store: catalog, vector store and FAISS index. Used by retrieval and the API."""
