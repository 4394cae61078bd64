"""Contact with the world that more than one tier has."""
