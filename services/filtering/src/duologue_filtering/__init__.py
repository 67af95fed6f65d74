"""Scored dialogues become decisions with reasons, then sealed datasets."""
