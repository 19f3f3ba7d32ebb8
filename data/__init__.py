"""Data that ships with xsearch: the built-in encoder's files."""
