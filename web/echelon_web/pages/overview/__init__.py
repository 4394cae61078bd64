"""The first page: is all well, and if not, why."""
