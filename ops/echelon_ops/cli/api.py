"""The HTTP API as commands use it: one request, one answer; a problem document becomes a failure."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final

from echelon_infra.process import BAD_INPUT, NO_SERVER
from echelon_ops.cli.options import settings_from
from echelon_ops.cli.output import Failure
from echelon_ops.find import web_address

REFUSED: Final = 3
NOT_FOUND: Final = 4
TIMEOUT_S: Final = 15.0
_CODES: Final = {400: BAD_INPUT, 413: BAD_INPUT, 422: BAD_INPUT, 404: NOT_FOUND, 503: NO_SERVER}


class Api:
    """A web node, found as `find` says."""

    def __init__(self, url: str | None) -> None:
        self._place = web_address(url, settings_from({}))

    @property
    def url(self) -> str:
        return self._place.address

    def get(self, path: str, **query: object) -> Any:
        asked = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", path + ("?" + urllib.parse.urlencode(asked) if asked else ""))

    def post(self, path: str, body: object = None) -> Any:
        return self._ask("POST", path, {} if body is None else body)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        """
        Raises:
            Failure: nothing answers (5), or what the problem document says.
        """
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        request = urllib.request.Request(
            f"{self.url}/api{path}",
            data=data,
            method=method,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise _refused(error.code, error.read()) from None
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Failure(
                f"No Echelon answers ({reason}). Tried: {'; '.join(self._place.tried)}. "
                "Start one with `echelon up`, or say where it is with --url.",
                NO_SERVER,
            ) from None
        try:
            return json.loads(text)
        except ValueError:
            raise Failure(f"What answers at {self.url} is no Echelon.", NO_SERVER) from None


def quoted(task_id: str) -> str:
    return urllib.parse.quote(task_id, safe="")


def _refused(status: int, text: bytes) -> Failure:
    code = _CODES.get(status, REFUSED if status < 500 else NO_SERVER)
    try:
        document = json.loads(text)
        said = [str(document.get("detail") or document["title"])]
        for error in document.get("errors", ()):
            line = f"{error['field']}: {error['message']}"
            if line not in said[0]:
                said.append("  " + line)
        if document.get("mend"):
            said.append(str(document["mend"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure(f"The server answered {status}.", code)
    return Failure("\n".join(said), code, document)
