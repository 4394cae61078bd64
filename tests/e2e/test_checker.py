"""The judge is judged: each violation, planted in an honest history, is found, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from e2e.checker import Asked, Evidence, Execution, Final, Kill, Read, Verdict, judge, parse_journal


def honest(tasks: int = 6) -> Evidence:
    """Task 0 failed once and was tried again, the last depends on it; process 900 was killed with 3."""
    executions = [
        Execution(task, 1, 100, f"x{task}", 10.0 + task, 10.5 + task, "ok") for task in range(1, tasks)
    ]
    executions += [Execution(0, 1, 100, "y0", 1.0, 2.0, "raised"), Execution(0, 2, 100, "x0", 3.0, 4.0, "ok")]
    executions += [Execution(3, 1, 900, "y3", 5.0)]
    asked = [Asked("a", task, "ok", f"t-{task}") for task in range(tasks - 1)]
    asked += [Asked("a", tasks - 1, "ok", f"t-{tasks - 1}", (0,))]
    final = [Final(f"t-{task}", "completed", {"task": task, "token": f"x{task}"}) for task in range(tasks)]
    final[-1] = final[-1]._replace(result={**final[-1].result, "given": {"t-0": "x0"}})
    reads = [Read(f"t-{task}", {"task": task, "token": f"x{task}"}) for task in range(3)]
    kills = [Kill(6.0, "worker-east-1", {899, 900})]
    return Evidence(asked, reads, executions, final, kills, {f"x{task}" for task in range(tasks)} | {"y0"})


def found(verdict: Verdict) -> set[str]:
    lists = ("lost", "unexpected", "effective_twice", "too_early", "excess")
    return {name for name in lists if getattr(verdict, name)}


def test_an_honest_history_is_sound() -> None:
    verdict = judge(honest())
    assert verdict.sound and not found(verdict) and not verdict.excess
    assert (verdict.executed_twice, verdict.bound, verdict.acknowledged) == (1, 1, 6)


def without(evidence: Evidence, task_id: str) -> list[Final]:
    return [task for task in evidence.final if task.id != task_id]


def with_final(evidence: Evidence, task: Final) -> list[Final]:
    return [*without(evidence, task.id), task]


def result(task: int, token: str, **more: Any) -> dict[str, Any]:
    return {"task": task, "token": token, **more}


H = honest()
VIOLATIONS: dict[str, tuple[Evidence, set[str]]] = {
    "acknowledged, then unknown": (replace(H, final=without(H, "t-1")), {"lost"}),
    "acknowledged, then for ever pending": (
        replace(H, final=with_final(H, Final("t-1", "pending"))),
        {"lost"},
    ),
    "acknowledged, then failed": (replace(H, final=with_final(H, Final("t-1", "failed"))), {"lost"}),
    "completed by nobody": (
        replace(H, final=with_final(H, Final("t-4", "completed", result(4, "z4")))),
        {"unexpected"},
    ),
    "completed by an execution that never ended": (
        replace(H, final=with_final(H, Final("t-3", "completed", result(3, "y3")))),
        {"unexpected"},
    ),
    "completed without a result": (
        replace(H, final=with_final(H, Final("t-4", "completed", None))),
        {"unexpected"},
    ),
    "executed and never asked for": (
        replace(H, executions=[*H.executions, Execution(77, 1, 100, "z", 1.0, 2.0, "ok")]),
        {"unexpected"},
    ),
    "refused and yet executed": (
        replace(
            H,
            asked=[*H.asked, Asked("a", 77, "fail")],
            executions=[*H.executions, Execution(77, 1, 100, "z", 1.0, 2.0, "ok")],
        ),
        {"unexpected"},
    ),
    "a lost answer that was submitted twice": (
        replace(
            H,
            executions=[*H.executions, Execution(2, 1, 100, "z2", 1.0, 2.0, "ok")],
            final=[*H.final, Final("t-99", "completed", result(2, "z2"))],
        ),
        {"effective_twice", "excess"},
    ),
    "read with one result, ended with another": (
        replace(H, reads=[*H.reads, Read("t-1", result(1, "z1"))]),
        {"effective_twice"},
    ),
    "a dependant that was given another result": (
        replace(H, final=with_final(H, Final("t-5", "completed", result(5, "x5", given={"t-0": "y0"})))),
        {"effective_twice"},
    ),
    "a failure that was charged twice": (
        replace(H, executions=[e._replace(attempt=3) if e.token == "x0" else e for e in H.executions]),
        {"effective_twice"},
    ),
    "executed twice with nobody killed": (replace(H, kills=[]), {"excess"}),
    "executed twice although the victim had reported": (
        replace(H, reported={*H.reported, "y3"}),
        {"excess"},
    ),
    "a dependant that did not wait": (
        replace(H, executions=[e._replace(began=2.5) if e.token == "x5" else e for e in H.executions]),
        {"too_early"},
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_each_violation_is_found_and_named(violation: str) -> None:
    evidence, kinds = VIOLATIONS[violation]
    verdict = judge(evidence)
    assert found(verdict) == kinds and not verdict.sound, str(verdict)
    assert any(getattr(verdict, kind) for kind in kinds) and len(str(verdict).splitlines()) > 2


def test_an_unknown_answer_may_be_seen_or_not() -> None:
    evidence = replace(H, asked=[*H.asked, Asked("a", 50, "info")])
    assert judge(evidence).sound
    seen = replace(
        evidence,
        executions=[*H.executions, Execution(50, 1, 100, "x50", 1.0, 2.0, "ok")],
        final=[*H.final, Final("t-50", "completed", result(50, "x50"))],
    )
    assert judge(seen).sound


def test_a_journal_is_read_back_and_a_torn_line_is_refused() -> None:
    lines = ["S 7 1 100 tok 1.5", "S 8 1 100 other 1.6", "E tok 2.5 ok"]
    assert parse_journal(lines) == [
        Execution(7, 1, 100, "tok", 1.5, 2.5, "ok"),
        Execution(8, 1, 100, "other", 1.6),
    ]
    with pytest.raises(ValueError, match="no line"):
        parse_journal(["S 7 1 1"])
