"""Makes the encoder that ships with xsearch: `python -m xsearch.training.builtin --help`."""
