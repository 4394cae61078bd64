"""How busy the machine is, or the container: what `pressure` judges and the lease tells."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

from echelon_worker.pressure import Figures

_CGROUP: Final = Path("/sys/fs/cgroup")


def read() -> Figures:
    """Percent of CPU since the last call, percent of memory. A container's own memory limit counts."""
    return Figures(psutil.cpu_percent(), max(psutil.virtual_memory().percent, _container_percent()))


def _container_percent() -> float:
    """0.0 where there is no limit. What can be dropped at need (file pages) is not in use."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return 0.0
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return 100.0 * max(0, used - int(stat.get("inactive_file", 0))) / int(limit)
    except (OSError, ValueError):
        return 0.0
