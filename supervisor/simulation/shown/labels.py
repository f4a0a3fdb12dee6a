"""What long paths are called in a chart, so that a line has room for something else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

_CUT = ".."


def labels(paths: Iterable[str], longest: int) -> Mapping[str, str]:
    """Return what to call each path, in at most `longest` characters (8 or more): the path, or the end of a long one.

    Several with the same end are called by where they differ; ``/`` is the root.
    """
    same: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        same.setdefault(_ending(path or "/", longest), []).append(path)
    found: dict[str, str] = {}
    for label, group in same.items():
        found |= {group[0]: label} if len(group) == 1 else _by_difference(group, longest)
    taken: set[str] = set()
    for path, label in found.items():
        number = 1
        while found[path] in taken:  # as paths may that differ in two places
            number += 1
            found[path] = f"{label[: longest - len(str(number)) - 1]}~{number}"
        taken.add(found[path])
    return found


def _ending(path: str, longest: int) -> str:
    if len(path) <= longest:
        return path
    kept = path[len(_CUT) - longest :]
    return _CUT + kept[max(0, kept.find("/")) :]


def _by_difference(paths: Sequence[str], longest: int) -> dict[str, str]:
    backwards = zip(*(path[::-1] for path in paths), strict=False)
    alike = sum(1 for _ in takewhile(lambda signs: len(set(signs)) == 1, backwards))
    room = longest - 2 * len(_CUT)
    starts = {path: max(0, len(path) - alike - room) for path in paths}
    return {path: f"{_CUT if start else ''}{path[start : start + room]}{_CUT}" for path, start in starts.items()}
