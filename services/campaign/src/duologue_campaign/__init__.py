"""Control plane: the only owner of a campaign's state."""
