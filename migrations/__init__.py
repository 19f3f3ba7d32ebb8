"""Alembic migrations of the catalog. Frozen: they never import the live tables."""
