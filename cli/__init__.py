"""The typer command: a thin skin over the Python API."""
