"""How often the kernel has killed somebody in a control group for want of memory. Linux; both versions of cgroups."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_EVERYWHERE: Final = Path("/proc/vmstat")


class OomKills:
    """A counter of the kernel's, and how many of those it counts are accounted for."""

    def __init__(self, file: Path) -> None:
        """Open `file`, which holds a line ``oom_kill N``.

        Raises:
            OSError, ValueError: it does not, or there is none.
        """
        self.file = file
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._count = self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    def claim(self) -> bool:
        """Look again; return whether there was one that nobody has claimed yet, and claim it."""
        is_new = self._read() > self._count
        self._count += is_new
        return is_new

    def forget(self) -> None:
        """Have nobody claim what there was so far."""
        self._count = self._read()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _read(self) -> int:
        for line in os.pread(self._descriptor, 65_536, 0).splitlines():
            name, _, value = line.partition(b" ")
            if name == b"oom_kill":
                return int(value)
        raise ValueError(f"{self.file} has no line oom_kill")


def oom_kills() -> OomKills | None:
    """Return the counter of this process's control group, or of the machine if its group has none."""
    for file in [*_candidates(), _EVERYWHERE]:
        with suppress(OSError, ValueError):
            return OomKills(file)
    return None


def _candidates() -> list[Path]:
    found: list[Path] = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                found.append(_ROOT / "memory" / path.lstrip("/") / "memory.oom_control")
            elif number == "0":
                # Beside version 1 the second hierarchy is mounted below the first.
                found += [root / path.lstrip("/") / "memory.events" for root in (_ROOT, _ROOT / "unified")]
    return found
