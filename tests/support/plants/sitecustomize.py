"""Bugs planted in the product from outside, to see whether the judge of kill runs catches them.

This folder on PYTHONPATH and PLANT=name in the environment: Python imports `sitecustomize` at its start,
which lays a patch ready for the module that is to be spoilt, applied when the product imports that module.
Nothing in the product knows of it. A plant that finds nothing to spoil ends the process with words, for a
planted bug that is not there would be taken for a judge that sees nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Spoiler(importlib.abc.MetaPathFinder):
    """Finds one module as everybody else does, and spoils it after it has run."""

    def __init__(self, name: str, spoil: Callable[[ModuleType], None]) -> None:
        self.name, self.spoil = name, spoil

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        honest = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            honest(module)
            self.spoil(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def prepare(plant: str) -> None:
    sys.path.insert(0, FOLDER)
    import bugs

    if plant not in bugs.PLANTS:
        sys.exit(f"PLANT={plant}: there is no such bug; known are {', '.join(bugs.PLANTS)}")
    module, spoil = bugs.PLANTS[plant]
    sys.meta_path.insert(0, Spoiler(module, spoil))


if plant := os.environ.get("PLANT"):
    prepare(plant)
