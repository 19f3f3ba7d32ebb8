"""From filters as a person asks for them to plain conditions."""
