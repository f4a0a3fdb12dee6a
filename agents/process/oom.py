"""How often the kernel has killed somebody in a control group for want of memory. Linux; both versions of cgroups."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_EVERYWHERE: Final = Path("/proc/vmstat")


@dataclass(slots=True)
class OomKills:
    """A counter of the kernel's, and how it stood when it was last looked at.

    Attributes:
        file: holds the line ``oom_kill N``.
        count: N; None if there is no such line.
    """

    file: Path
    count: int | None

    def have_grown(self) -> bool:
        """Look again; return whether there were any since the last look."""
        before, self.count = self.count, _read(self.file)
        return before is not None and self.count is not None and self.count > before


def oom_kills(pid: int | str = "self") -> OomKills:
    """Return the counter of the control group of a process, or of the machine if its group has none."""
    for file in [*_candidates(pid), _EVERYWHERE]:
        if (count := _read(file)) is not None:
            return OomKills(file, count)
    return OomKills(_EVERYWHERE, None)


def _candidates(pid: int | str) -> list[Path]:
    found: list[Path] = []
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                found.append(_ROOT / "memory" / path.lstrip("/") / "memory.oom_control")
            elif number == "0":
                # Beside version 1 the second hierarchy is mounted below the first.
                found += [root / path.lstrip("/") / "memory.events" for root in (_ROOT, _ROOT / "unified")]
    return found


def _read(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None
