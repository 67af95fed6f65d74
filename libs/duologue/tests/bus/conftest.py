"""Hypothesis draws the same examples every time, and a busy machine is no failure."""

from hypothesis import settings

settings.load_profile("ci")
