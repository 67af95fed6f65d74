"""A dialogue becomes scores."""
