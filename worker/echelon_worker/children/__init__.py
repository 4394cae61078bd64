"""Child processes: the only place where user code runs."""
