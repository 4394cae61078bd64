"""Import the application: a file or a module. Its types are what @task has registered by then."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from echelon.tasks import Task, registered

_HIDDEN: Final = (str(Path(__file__).parent) + os.sep, "<frozen importlib", importlib.__file__)


class LoadError(Exception):
    """The application cannot be used; the text says why, in the words of its own traceback."""


def load(app: str) -> Mapping[str, Task[..., Any, Any]]:
    """Types by name.

    Raises:
        LoadError: no such file or module, it raises on import, or it has no task.
    """
    try:
        _import(app)
        for task in registered().values():
            if task.signature is not None:
                _ = task.signature.fields
    except BaseException as error:  # noqa: BLE001  an application may raise anything, SystemExit too
        raise LoadError(_told(app, error)) from None
    if not registered():
        raise LoadError(f"{app} defines no task. Put @task (from echelon import task) on a function.")
    return registered()


def _import(app: str) -> None:
    if not app.endswith(".py") and os.sep not in app:
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        importlib.import_module(app)
        return
    path = Path(app).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {app}.")
    name = path.stem
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"app_{name}"
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{app} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _told(app: str, error: BaseException) -> str:
    """The user's traceback without the machinery of importing."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HIDDEN):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    return f"{app} cannot be loaded:\n{text}"[:8000].encode("utf-8", "replace").decode()
