"""Judges a run from outside: what clients were told, what handlers wrote down, what the API says at the end.

It knows nothing of how Echelon works. Every execution of a handler has a token of its own; it appends a
line when it begins and one when it ends, and its result names it. So the final result of a task says *whose*
outcome took effect, and a dependant says whose result it was given.

    lost              acknowledged, and not completed at the end
    unexpected        completed without being asked for, or with a result that no execution gave
    effective twice   admitted as two tasks; read first with one result and then with another; a dependant was
                      given another result than the one that stands; an attempt counted that nobody executed
    executed twice    executions beyond the first of one attempt of one task. Some are owed to a kill: an
                      execution by a process that was killed, whose report had not become durable, may be
                      repeated once. `bound` is the number of those, counted from journal and reports.
    too early         began before its dependency had ended

`lost`, `unexpected`, `effective_twice` and `too_early` must be empty; each repetition must be owed to a kill.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Execution(NamedTuple):
    """One time that a handler ran. Times are monotonic seconds, the same for all processes of a machine."""

    task: int
    attempt: int
    pid: int
    token: str
    began: float
    ended: float | None = None
    how: str = ""  # ok | raised, "" = never came to its end


class Asked(NamedTuple):
    """What a client invoked, and what it was told: ok (with the id), fail (refused), info (never heard)."""

    client: str
    task: int
    kind: str
    id: str = ""
    after: Sequence[int] = ()


class Read(NamedTuple):
    """A client was told that a task had completed, with this result."""

    id: str
    result: Any


class Final(NamedTuple):
    """A task at the end, as the API tells it."""

    id: str
    status: str
    result: Any = None


class Kill(NamedTuple):
    """`pids`: the process killed and the children that die with it."""

    at: float
    name: str
    pids: Collection[int]


@dataclass
class Evidence:
    asked: Sequence[Asked]
    reads: Sequence[Read]
    executions: Sequence[Execution]
    final: Sequence[Final]
    kills: Sequence[Kill] = ()
    reported: Collection[str] = frozenset()
    """Tokens of executions whose report became durable."""


@dataclass
class Verdict:
    tasks: int = 0
    acknowledged: int = 0
    unknown: int = 0
    executions: int = 0
    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    effective_twice: list[str] = field(default_factory=list)
    too_early: list[str] = field(default_factory=list)
    executed_twice: int = 0
    bound: int = 0
    excess: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        wrong = self.lost or self.unexpected or self.effective_twice or self.too_early
        return not wrong and not self.excess

    def __str__(self) -> str:
        counts = (
            f"tasks {self.tasks} · acknowledged {self.acknowledged} · unknown {self.unknown} · "
            f"executions {self.executions}\nlost {len(self.lost)} · unexpected {len(self.unexpected)} · "
            f"effective twice {len(self.effective_twice)} · too early {len(self.too_early)} · "
            f"executed twice {self.executed_twice} (killed processes held {self.bound} unreported)"
        )
        examples = (
            f"  {title}: {line}"
            for title in ("lost", "unexpected", "effective_twice", "too_early", "excess")
            for line in getattr(self, title)[:8]
        )
        return "\n".join([counts, *examples])


def judge(evidence: Evidence) -> Verdict:
    verdict = Verdict(
        tasks=len({asked.task for asked in evidence.asked}),
        acknowledged=sum(asked.kind == "ok" for asked in evidence.asked),
        unknown=sum(asked.kind == "info" for asked in evidence.asked),
        executions=len(evidence.executions),
    )
    final = {task.id: task for task in evidence.final}
    by_token = {execution.token: execution for execution in evidence.executions}
    verdict.lost = list(_lost(evidence.asked, final))
    verdict.unexpected = list(_unexpected(evidence, by_token))
    verdict.effective_twice = [
        *_admitted_twice(evidence),
        *_results_that_changed(evidence.reads, final),
        *_dependants_that_saw_another(evidence, final, by_token),
        *_attempts_that_nobody_made(evidence),
    ]
    verdict.too_early = list(_too_early(evidence, by_token))
    surplus = _surplus(evidence.executions)
    held = _held(evidence)
    verdict.executed_twice = sum(surplus.values())
    verdict.bound = len(held)
    owed = Counter((execution.task, execution.attempt) for execution in held)
    verdict.excess = [
        f"task {task}, attempt {attempt}: executed {count + 1} times, {owed[task, attempt]} owed to a kill"
        for (task, attempt), count in surplus.items()
        if count > owed[task, attempt]
    ]
    return verdict


def token_of(result: Any) -> str:
    """The execution that a result names, "" if it names none."""
    return str(result.get("token", "")) if isinstance(result, Mapping) else ""


def _lost(asked: Iterable[Asked], final: Mapping[str, Final]) -> Iterator[str]:
    """With its place among what its client was promised: a lost beginning has other causes than a hole."""
    by_client: dict[str, list[Asked]] = defaultdict(list)
    for each in asked:
        if each.kind == "ok":
            by_client[each.client].append(each)
    for client, promised in by_client.items():
        for place, each in enumerate(promised):
            found = final.get(each.id)
            if found is None or found.status != "completed":
                state = found.status if found else "unknown to the API"
                yield f"task {each.task} ({each.id}), {place + 1} of {len(promised)} of {client}: {state}"


def _unexpected(evidence: Evidence, by_token: Mapping[str, Execution]) -> Iterator[str]:
    wanted = {asked.task for asked in evidence.asked if asked.kind != "fail"}
    for execution in evidence.executions:
        if execution.task not in wanted:
            yield f"task {execution.task} was executed by {execution.pid} and never asked for"
    for task in evidence.final:
        if task.status != "completed":
            continue
        execution = by_token.get(token_of(task.result))
        if execution is None or execution.how != "ok":
            yield f"{task.id} completed with a result that no execution gave: {task.result!r}"
        elif execution.task not in wanted:
            yield f"{task.id} completed and was never asked for"


def _admitted_twice(evidence: Evidence) -> Iterator[str]:
    ids: dict[int, set[str]] = defaultdict(set)
    for asked in evidence.asked:
        if asked.kind == "ok":
            ids[asked.task].add(asked.id)
    for task in evidence.final:
        if isinstance(task.result, Mapping) and "task" in task.result:
            ids[task.result["task"]].add(task.id)
    for task, names in ids.items():
        if len(names) > 1:
            yield f"task {task} was admitted as {sorted(names)}"


def _results_that_changed(reads: Iterable[Read], final: Mapping[str, Final]) -> Iterator[str]:
    completed = (task for task in final.values() if task.status == "completed")
    seen = {task.id: token_of(task.result) for task in completed}
    for read in reads:
        if read.id in seen and token_of(read.result) != seen[read.id]:
            yield f"{read.id} was read as {token_of(read.result)} and is {seen[read.id]}"


def _dependants_that_saw_another(
    evidence: Evidence, final: Mapping[str, Final], by_token: Mapping[str, Execution]
) -> Iterator[str]:
    for task in final.values():
        given = task.result.get("given", {}) if isinstance(task.result, Mapping) else {}
        for dependency, token in given.items():
            stands = final.get(dependency)
            if stands is not None and token_of(stands.result) != token:
                yield f"{task.id} was given {token} of {dependency}, which is {token_of(stands.result)}"


def _attempts_that_nobody_made(evidence: Evidence) -> Iterator[str]:
    """Attempts are charged runs: one that was charged twice leaves a number that no execution has."""
    made: dict[int, set[int]] = defaultdict(set)
    for execution in evidence.executions:
        made[execution.task].add(execution.attempt)
    for task, attempts in made.items():
        if missing := set(range(1, max(attempts) + 1)) - attempts:
            yield f"task {task}: attempts {sorted(missing)} were counted and never executed"


def _too_early(evidence: Evidence, by_token: Mapping[str, Execution]) -> Iterator[str]:
    first_end: dict[int, float] = {}
    for execution in evidence.executions:
        if execution.how == "ok" and execution.ended is not None:
            known = first_end.get(execution.task, execution.ended)
            first_end[execution.task] = min(known, execution.ended)
    needs = {asked.task: asked.after for asked in evidence.asked if asked.after}
    for execution in evidence.executions:
        for dependency in needs.get(execution.task, ()):
            ended = first_end.get(dependency)
            if ended is None or execution.began < ended:
                yield f"task {execution.task} began before {dependency} had ended"


def _surplus(executions: Iterable[Execution]) -> dict[tuple[int, int], int]:
    counts = Counter((execution.task, execution.attempt) for execution in executions)
    return {key: count - 1 for key, count in counts.items() if count > 1}


def _held(evidence: Evidence) -> list[Execution]:
    """What killed processes had begun, and nobody had durably heard of."""
    victims = {pid for kill in evidence.kills for pid in kill.pids}
    return [
        execution
        for execution in evidence.executions
        if execution.pid in victims and execution.token not in evidence.reported
    ]


def parse_journal(lines: Iterable[str]) -> list[Execution]:
    """Lines as handlers append them: `S task attempt pid token at` and `E token at how`.

    Raises:
        ValueError: a line is torn; appends of this size never are, so the journal itself is in doubt.
    """
    begun: dict[str, Execution] = {}
    for line in lines:
        match line.split():
            case ["S", task, attempt, pid, token, at]:
                begun[token] = Execution(int(task), int(attempt), int(pid), token, float(at))
            case ["E", token, at, how] if token in begun:
                begun[token] = begun[token]._replace(ended=float(at), how=how)
            case _:
                raise ValueError(f"no line of a journal: {line!r}")
    return list(begun.values())
