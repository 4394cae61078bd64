"""How many runs travel in one message: what fits in about 20 ms of the type's measured mean."""

from __future__ import annotations

TARGET_S = 0.02
MOST = 64
BYTES = 256 * 1024
_WEIGHT = 0.2  # of the newest message in the moving mean


class Means:
    """Mean seconds of a run, by type: exponentially weighted, one step a message of outcomes."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def learn(self, task_type: str, runs: int, total_s: float) -> None:
        mean = max(total_s / runs, 0.0)
        known = self._means.get(task_type)
        self._means[task_type] = mean if known is None else known + _WEIGHT * (mean - known)

    def size(self, task_type: str) -> int:
        """1 while nothing is known.

        >>> means = Means(); means.learn("quick", 64, 0.064); means.size("quick"), means.size("new")
        (20, 1)
        """
        mean = self._means.get(task_type)
        if mean is None:
            return 1
        return max(1, min(MOST, round(TARGET_S / max(mean, 1e-6))))
