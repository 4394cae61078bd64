"""Every error a user can meet, as one tree. Code and fields are the interface; the words may improve.

    EchelonError
    ├── Invalid                 422  the fields that are wrong, each with its mend
    │   ├── Malformed           400  no JSON, or none that we accept
    │   ├── BadArguments        422  arguments do not fit the handler's hints (SDK, before it sends)
    │   └── NotYet              422  a later version brings it
    ├── NotFound                404
    ├── Conflict                409
    │   ├── TaskIdConflict      409  the id exists with other content
    │   └── AlreadyEnded        409
    ├── PayloadTooLarge         413
    ├── Overloaded              429  with retry_after_s
    ├── Unavailable             503  no leader, no server; with retry_after_s
    │   └── NoServer            503  nothing answers at all
    └── how a task ended, raised by result():
        TaskFailed · TaskCancelled · TaskExpired

`str()` gives what and mend; `refusal()` the problem document that HTTP, NATS and CLI are drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from msgspec.structs import replace

from echelon.wire.api import FieldError, Refusal


class EchelonError(Exception):
    """Base of all. Subclasses are dataclasses: their fields are in the problem document."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Error"
    what: ClassVar[str] = "Something went wrong."
    mend: ClassVar[str] = ""
    said: Refusal | None = None  # what a server said, where the error came over the wire

    def detail(self) -> str:
        return self.what.format(**self.__dict__)

    def mending(self) -> str:
        return self.mend.format(**self.__dict__)

    def __str__(self) -> str:
        refusal = self.refusal()
        return f"{refusal.detail} {refusal.mend}".strip()

    def refusal(self) -> Refusal:
        if self.said is not None:
            return self.said
        return Refusal(
            code=self.code,
            status=self.status,
            title=self.title,
            detail=self.detail(),
            mend=self.mending(),
            errors=list(getattr(self, "errors", ())),
            retry_after_s=float(getattr(self, "retry_after_s", 0.0)),
        )


@dataclass(eq=False)
class Invalid(EchelonError):
    """Nothing was admitted. `errors` names every bad field."""

    code, status, title = "invalid", 422, "Invalid submission"

    errors: Sequence[FieldError] = ()

    def detail(self) -> str:
        return (
            " ".join(f"{error.field}: {error.message}" for error in self.errors[:5])
            or "The input is not valid."
        )


@dataclass(eq=False)
class Malformed(Invalid):
    code, status, title = "malformed", 400, "Malformed input"


@dataclass(eq=False)
class BadArguments(Invalid):
    """The arguments do not fit the task's signature; raised in the caller's process."""

    code, status, title = "bad_arguments", 422, "Arguments do not fit"


@dataclass(eq=False)
class NotYet(Invalid):
    code, status, title = "not_yet", 422, "Not built yet"


@dataclass(eq=False)
class NotFound(EchelonError):
    code, status, title = "not_found", 404, "Not found"
    what = "There is no {kind} {name!r}."
    mend = "Check the spelling: ids are compared as they are."

    kind: str = "task"
    name: str = ""


@dataclass(eq=False)
class Conflict(EchelonError):
    code, status, title = "conflict", 409, "Conflict"
    what = "{reason}"

    reason: str = ""


@dataclass(eq=False)
class TaskIdConflict(EchelonError):
    """The id exists with other content. The same content is no error and gives the existing task."""

    code, status, title = "task_id_conflict", 409, "Task id exists with other content"
    what = "Task {task_id!r} exists already and differs from this submission."
    mend = "Choose another id, or submit exactly what was submitted first."

    task_id: str = ""
    errors: Sequence[FieldError] = ()


@dataclass(eq=False)
class AlreadyEnded(EchelonError):
    code, status, title = "already_ended", 409, "Task has ended"
    what = "Task {task_id!r} has ended ({stage}); that cannot be changed."

    task_id: str = ""
    stage: str = ""


@dataclass(eq=False)
class StillLive(EchelonError):
    code, status, title = "still_live", 409, "Task has not failed"
    what = "Task {task_id!r} is {stage}; only a failed, cancelled or expired task can be retried."

    task_id: str = ""
    stage: str = ""


@dataclass(eq=False)
class PayloadTooLarge(EchelonError):
    """Raised at submission, before anything is admitted."""

    code, status, title = "payload_too_large", 413, "Payload too large"
    what = "The payload of {task_type!r} has {size_bytes:,} bytes; the limit is {limit_bytes:,}."
    mend = "Pass a path, URL or blob id and read it in the handler."

    task_type: str = ""
    size_bytes: int = 0
    limit_bytes: int = 0


@dataclass(eq=False)
class Overloaded(EchelonError):
    code, status, title = "overloaded", 429, "Backlog is full"
    what = "{backlog:,} tasks wait; the limit is {limit:,}."
    mend = "Try again in {retry_after_s:.0f} s, or add workers."

    backlog: int = 0
    limit: int = 0
    retry_after_s: float = 1.0


@dataclass(eq=False)
class Unavailable(EchelonError):
    code, status, title = "unavailable", 503, "Unavailable"
    what = "{reason}"
    mend = "Try again shortly; `echelon doctor` says what is wrong."

    reason: str = "No master answers."
    retry_after_s: float = 1.0


@dataclass(eq=False)
class NoServer(Unavailable):
    """Nothing answers at any of the places tried."""

    code, status, title = "no_server", 503, "No server"
    what = "No Echelon answers. Tried: {tried}."
    mend = "Start one with `echelon up`, or set ECHELON_NATS_URL."

    tried: str = ""


@dataclass(eq=False)
class Refused(EchelonError):
    """A refusal from the server of a code that this version does not know."""

    document: Refusal = field(default_factory=lambda: Refusal("error", 500, "Error", ""))

    def detail(self) -> str:
        return self.document.detail

    def mending(self) -> str:
        return self.document.mend

    def refusal(self) -> Refusal:
        return self.document


@dataclass(eq=False)
class TaskFailed(EchelonError):
    """The task ended in failure. `type`, `message` and `remote_traceback` are those of the worker."""

    code, status, title = "task_failed", 500, "Task failed"

    task_id: str = ""
    type: str = ""
    message: str = ""
    remote_traceback: str = ""
    attempt: int = 0

    def detail(self) -> str:
        said = f"Task {self.task_id!r} failed: {self.type}: {self.message}"
        return f"{said}\n\n{self.remote_traceback}" if self.remote_traceback else said


@dataclass(eq=False)
class TaskCancelled(EchelonError):
    code, status, title = "task_cancelled", 409, "Task cancelled"
    what = "Task {task_id!r} was cancelled."

    task_id: str = ""


@dataclass(eq=False)
class TaskExpired(EchelonError):
    code, status, title = "task_expired", 409, "Task expired"
    what = "Task {task_id!r} expired before it began."

    task_id: str = ""


_BY_CODE: dict[str, type[EchelonError]] = {
    cls.code: cls
    for cls in (
        Invalid, Malformed, BadArguments, NotYet, NotFound, Conflict, TaskIdConflict, AlreadyEnded, StillLive,
        PayloadTooLarge, Overloaded, Unavailable, NoServer,
    )
}  # fmt: skip


def error_of(refusal: Refusal) -> EchelonError:
    """The exception for a refusal that came over the wire; an unknown code gives `Refused`."""
    cls = _BY_CODE.get(refusal.code)
    if cls is None:
        return Refused(refusal)
    error = cls()
    error.said = refusal
    for field_name in ("errors", "retry_after_s"):
        if hasattr(error, field_name):
            setattr(error, field_name, getattr(refusal, field_name))
    return error


def alone(error: EchelonError) -> EchelonError:
    """The same refusal for whoever submitted a single task: its fields do not stand in `tasks[0]`."""
    refusal = error.refusal()
    if not refusal.errors:
        return error
    fields = [replace(one, field=one.field.removeprefix("tasks[0].")) for one in refusal.errors]
    return error_of(replace(refusal, detail=refusal.detail.replace("tasks[0].", ""), errors=fields))
