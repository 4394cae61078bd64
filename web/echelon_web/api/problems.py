"""Errors as RFC 9457 problem documents: ours, those of the framework, and those nobody expected."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from echelon.errors import EchelonError
from echelon.wire.api import Refusal
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.telemetry import logs

log = logs.get("web")
MEDIA_TYPE: Final = "application/problem+json"
_KNOWN: Final = {
    404: Refusal(
        "not_found",
        404,
        "Not found",
        "There is nothing at this path.",
        "The paths are those of /api/tasks, /api/workers, /api/regions.",
    ),
    405: Refusal(
        "method",
        405,
        "Method not allowed",
        "This path does not take that method.",
        "Use GET to read and POST to act.",
    ),
    413: Refusal(
        "payload_too_large",
        413,
        "Payload too large",
        "The body is larger than 65 MiB.",
        "Pass a path or URL as payload and read it in the handler.",
    ),
}


def document(refusal: Refusal, more: Mapping[str, object] | None = None) -> dict[str, object]:
    return {
        "type": f"urn:echelon:problem:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
        "mend": refusal.mend,
        "errors": [
            {"field": error.field, "code": error.code, "message": error.message} for error in refusal.errors
        ],
        **(more or {}),
    }


def problem(refusal: Refusal, more: Mapping[str, object] | None = None) -> Response[bytes]:
    headers = {}
    if refusal.retry_after_s or refusal.status in (429, 503):
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return Response(
        msgspec.json.encode(document(refusal, more)),
        status_code=refusal.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def of_ours(request: Request[Any, Any, Any], error: EchelonError) -> Response[bytes]:
    return problem(error.refusal(), getattr(error, "more", None))


def of_broker(request: Request[Any, Any, Any], error: BrokerError) -> Response[bytes]:
    log.warning("the broker did not answer", path=request.url.path, error=str(error))
    return problem(
        Refusal(
            "unavailable", 503, "Unavailable", "The message broker does not answer.", "Try again shortly.",
            retry_after_s=1.0,
        )
    )  # fmt: skip


def of_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    return problem(_KNOWN.get(status) or Refusal("refused", status, "Refused", error.detail))


def of_nobody_expected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    number = uuid.uuid4().hex[:12]
    log.error("request failed", path=request.url.path, request=number, exc_info=error)
    return problem(
        Refusal(
            "internal", 500, "Internal error", f"Something went wrong here (request {number}).",
            "Look for that number in the web node's log, and report it.",
        )
    )  # fmt: skip
