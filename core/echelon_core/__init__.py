"""Core: what both schedulers, the read model and the simulator must agree on. No I/O, no clock, no chance."""
