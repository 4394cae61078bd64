"""The web application: which handlers are where, what becomes of errors. Nothing else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import echelon_vendor  # type: ignore[import-untyped]  # made by the build: files and no code
from litestar import Litestar, Router
from litestar.datastructures import CacheControlHeader
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp

from echelon.errors import EchelonError
from echelon.wire.names import PAYLOAD_BYTES
from echelon_infra.jetstream.errors import BrokerError
from echelon_web.api import others, problems, tasks
from echelon_web.guard import Guard, names_of
from echelon_web.node import Node
from echelon_web.pages.routes import HANDLERS as PAGES

BODY_BYTES: Final = PAYLOAD_BYTES + 1024 * 1024


def build(node: Node) -> ASGIApp:
    """The ASGI application of a node that runs."""
    api = (*tasks.HANDLERS, *others.HANDLERS)
    forever = CacheControlHeader(max_age=31_536_000, immutable=True)
    vendored = Path(echelon_vendor.__file__).parent
    ours = Path(str(files("echelon_web").joinpath("static")))
    app = Litestar(
        [
            Router("/api", route_handlers=api),
            Router("/api/v1", route_handlers=api),
            *others.HEALTH,
            *PAGES,
            create_static_files_router("/static", [ours, vendored], cache_control=forever),
        ],
        dependencies={"node": Provide(lambda: node, sync_to_thread=False)},
        exception_handlers={
            EchelonError: problems.of_ours,
            BrokerError: problems.of_broker,
            HTTPException: problems.of_framework,
            Exception: problems.of_nobody_expected,
        },
        request_max_body_size=BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )
    return Guard(app, names_of(node.settings.host))
