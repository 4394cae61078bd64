"""Hypothesis on a noisy machine: no deadline per example; a failure prints how to repeat it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("echelon", deadline=None, print_blob=True)
settings.load_profile("echelon")
