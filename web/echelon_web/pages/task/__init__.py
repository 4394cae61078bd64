"""One task: why it is where it is, and what happened to it."""
