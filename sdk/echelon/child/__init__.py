"""Everything that shares a process with user code."""
