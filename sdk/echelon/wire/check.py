"""What a submission must satisfy, field by field. The SDK asks before it sends, the web tier before it
forwards, and the master before it admits: one truth, so the same mistake reads the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from echelon.wire.api import Backoff, FieldError, Submission, options_of
from echelon.wire.names import PAYLOAD_BYTES, TASKS_PER_REQUEST, is_task_id, is_task_type, is_token, ref_of

MAX_TIMEOUT_S: Final = 7 * 86400.0
MAX_RETRIES: Final = 1000
MAX_DEPENDENCIES: Final = 10_000
MAX_TAGS: Final = 64
MAX_FACTOR: Final = 1000.0
BACKOFFS: Final = ("exponential", "constant", "linear")


def check_task(task: Submission, at: str = "") -> Iterator[FieldError]:
    """Every bad field of a task; `at` is where it stands ("tasks[3].") in what the user sent."""
    if not is_task_type(task.type):
        yield FieldError(
            f"{at}task_type",
            "task_type",
            "Use 1 to 255 of the characters A-Z a-z 0-9 _ . : / - and begin with a letter, digit or _.",
        )
    if task.id:
        if not is_task_id(task.id):
            yield FieldError(
                f"{at}task_id",
                "task_id",
                "Use 1 to 128 of the characters A-Z a-z 0-9 _ . : - with at least one letter or digit.",
            )
        elif ref_of(task.id) is not None:
            yield FieldError(
                f"{at}task_id",
                "reserved_id",
                "Ids like t-0000000000000 are made by Echelon; choose another.",
            )
    if not 1 <= task.priority <= 10:
        yield FieldError(
            f"{at}priority",
            "priority",
            f"{task.priority} is not in 1 to 10 (10 first; critical high normal low).",
        )
    if max(len(task.payload), task.payload_bytes) > PAYLOAD_BYTES:
        yield FieldError(
            f"{at}payload", "payload_too_large", "The limit is 64 MiB: pass a path or URL instead."
        )
    yield from _check_options(task, at)
    yield from _check_dependencies(task, at)


def _check_options(task: Submission, at: str) -> Iterator[FieldError]:
    options = options_of(task)
    if not (math.isfinite(options.timeout_s) and 0 < options.timeout_s <= MAX_TIMEOUT_S):
        yield FieldError(f"{at}timeout", "timeout", "Give seconds above 0 and at most 604800 (7 days).")
    if not 0 <= options.retries <= MAX_RETRIES:
        yield FieldError(f"{at}retries", "retries", f"Give a number from 0 to {MAX_RETRIES}.")
    yield from _check_backoff(options.backoff, at)
    for field, value in (
        ("region", options.region or "x"),
        ("pool", options.pool),
        ("tenant", options.tenant),
    ):
        if not is_token(value):
            yield FieldError(f"{at}{field}", field, "Use 1 to 64 of A-Z a-z 0-9 _ - and do not begin with _.")
    if len(options.tags) > MAX_TAGS or any(not 0 < len(tag) <= 128 for tag in options.tags):
        yield FieldError(f"{at}tags", "tags", f"At most {MAX_TAGS} tags of 1 to 128 characters.")


def _check_backoff(backoff: Backoff, at: str) -> Iterator[FieldError]:
    """A backoff from outside must not make a region's arithmetic overflow, nor a task wait for ever."""
    if backoff.kind not in BACKOFFS:
        yield FieldError(f"{at}backoff", "backoff", f"Use one of {', '.join(BACKOFFS)}.")
    if not 1 <= backoff.factor <= MAX_FACTOR:
        yield FieldError(f"{at}backoff.factor", "backoff", f"Give a number from 1 to {MAX_FACTOR:.0f}.")
    for name in ("base_s", "cap_s", "jitter_s"):
        if not 0 <= getattr(backoff, name) <= MAX_TIMEOUT_S:
            yield FieldError(f"{at}backoff.{name}", "backoff", "Give seconds from 0 to 604800 (7 days).")


def _check_dependencies(task: Submission, at: str) -> Iterator[FieldError]:
    if len(task.dependencies) > MAX_DEPENDENCIES:
        yield FieldError(
            f"{at}dependencies",
            "dependencies",
            f"{len(task.dependencies):,} are too many; the limit is {MAX_DEPENDENCIES:,}.",
        )
        return
    for index, dependency in enumerate(task.dependencies):
        field = f"{at}dependencies[{index}]"
        if not is_task_id(dependency):
            yield FieldError(field, "task_id", "This is no task id.")
        elif task.id and dependency == task.id:
            yield FieldError(field, "self_dependency", "A task cannot wait for itself; remove it.")


def check_group(tasks: Sequence[Submission], path: str = "tasks[{}].") -> list[FieldError]:
    """Every bad field of what one caller submits, cycles and repeated ids included.

    `path` says how the user wrote a task's place; "" for a single task.
    """
    errors: list[FieldError] = []
    if not tasks:
        errors.append(FieldError("tasks", "empty", "Give at least one task."))
    if len(tasks) > TASKS_PER_REQUEST:
        errors.append(
            FieldError(
                "tasks", "too_many", f"{len(tasks):,} tasks; send at most {TASKS_PER_REQUEST:,} a request."
            )
        )
        return errors
    places: dict[str, int] = {}
    for index, task in enumerate(tasks):
        at = path.format(index)
        errors.extend(check_task(task, at))
        if task.id:
            if task.id in places:
                errors.append(
                    FieldError(f"{at}task_id", "repeated_id", f"tasks[{places[task.id]}] has this id too.")
                )
            else:
                places[task.id] = index
    if places and not errors and any(task.dependencies for task in tasks):
        errors.extend(_check_cycles(tasks, places, path))
    return errors


def _check_cycles(tasks: Sequence[Submission], places: dict[str, int], path: str) -> Iterator[FieldError]:
    """Kahn's algorithm: what cannot be sorted is a cycle or hangs below one."""
    waits = [{places[d] for d in task.dependencies if d in places} for task in tasks]
    needed_by: list[list[int]] = [[] for _ in tasks]
    for index, on in enumerate(waits):
        for other in on:
            needed_by[other].append(index)
    left = [len(on) for on in waits]
    free = [index for index, count in enumerate(left) if not count]
    sorted_count = 0
    while free:
        index = free.pop()
        sorted_count += 1
        for dependant in needed_by[index]:
            left[dependant] -= 1
            if not left[dependant]:
                free.append(dependant)
    if sorted_count == len(tasks):
        return
    index = next(i for i, count in enumerate(left) if count)
    walk: list[int] = []
    while index not in walk:
        walk.append(index)
        index = next(other for other in sorted(waits[index]) if left[other])
    cycle = [*walk[walk.index(index) :], index]
    names = " → ".join(tasks[i].id for i in cycle)
    yield FieldError(f"{path.format(index)}dependencies", "cycle", f"These wait for each other: {names}.")
