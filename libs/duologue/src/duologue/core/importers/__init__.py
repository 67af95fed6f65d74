"""Workflows drawn elsewhere, turned into our workflow file: text in, YAML text out, nothing in between is kept."""
