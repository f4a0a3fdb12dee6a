"""In which rhythm failures of one child come fastest: bursts, and between them just as long as makes it stable. Pure.

A failure waits longer the more came before it in a row, and `stable_after` seconds of being ready make it the first of
a row again. Hence after each failure there are two quickest ways to the next: to fail as soon as it is ready, or to be
ready for `stable_after` first. All sequences of these two are looked at; anything between them is slower. That holds
for policies that go by the number of failures in a row, and whatever is found here is still put before the core.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_ROUNDING: Final = 1 + 1e-9  # sums of seconds


class _Pauses(NamedTuple):
    """Where in a sequence of failures it was ready for `stable_after`: before the failure of this number."""

    before: int
    earlier: _Pauses | None


class _Reached(NamedTuple):
    """The soonest that so many failures can have happened, the last of them at some place in a row."""

    after_s: float
    pauses: _Pauses | None
    began_at: int


def most_failures(delays: tuple[float, ...], *, goes_on: bool, stable_after: float, within: float, enough: int) -> int:
    """Return how many failures can fall into `within` seconds, `enough` at most.

    Args:
        delays: after the first failure in a row, the second and so on; after one more it does not come back.
        goes_on: or else it does, each time after the last of `delays`.
        stable_after: seconds of being ready that make the next failure the first in a row.
        within: seconds, both ends included.
        enough: failures after which nobody counts further.
    """
    return _count(_Steps(_shortened(delays, goes_on), goes_on, stable_after, within), enough)[0]


def fastest_failures(
    delays: tuple[float, ...], *, goes_on: bool, stable_after: float, within: float, failures: int
) -> tuple[int, ...] | None:
    """Return the bursts in which so many `failures` come soonest; None if they do not fit into `within` seconds.

    Between two bursts it is ready for `stable_after` seconds. The first burst is longer by what has to come before.
    The other arguments are those of `most_failures`.
    """
    count, soonest = _count(_Steps(_shortened(delays, goes_on), goes_on, stable_after, within), failures)
    if count < failures or soonest is None:
        return None
    bursts: list[int] = []
    end, pauses = failures, soonest.pauses
    while pauses is not None:
        bursts.append(end - pauses.before + 1)
        end, pauses = pauses.before - 1, pauses.earlier
    return (end + soonest.began_at, *reversed(bursts))


def _shortened(delays: tuple[float, ...], goes_on: bool) -> tuple[float, ...]:
    """Return the delays without the repetitions at the end, which are all the same place if it goes on for ever."""
    if not goes_on or not delays:
        return delays
    length = len(delays)
    while length > 1 and delays[length - 2] == delays[-1]:
        length -= 1
    return delays[:length]


class _Steps(NamedTuple):
    delays: tuple[float, ...]
    goes_on: bool
    stable_after: float
    within: float

    def next(self, reached: dict[int, _Reached], number: int) -> dict[int, _Reached]:
        """Return where failure `number` can be in a row, given where the one before it can be."""
        found: dict[int, _Reached] = {}
        last, latest = len(self.delays) - 1, self.within * _ROUNDING
        anew: _Reached | None = None
        for place, (after_s, pauses, began_at) in reached.items():
            ready_s = after_s + self.delays[place]
            further = place + 1 if place < last else last if self.goes_on else None
            if further is not None and ready_s <= latest:
                known = found.get(further)
                if known is None or ready_s < known.after_s:
                    found[further] = _Reached(ready_s, pauses, began_at)
            stable_s = ready_s + self.stable_after
            if stable_s <= latest and (anew is None or stable_s < anew.after_s):
                anew = _Reached(stable_s, _Pauses(number, pauses), began_at)
        if anew is not None and (0 not in found or anew.after_s < found[0].after_s):
            found[0] = anew
        return found


def _count(steps: _Steps, enough: int) -> tuple[int, _Reached | None]:
    """Return how many failures fit, and the soonest of the last of them."""
    reached = {place: _Reached(0.0, None, place) for place in range(len(steps.delays))}
    number = 0
    soonest: _Reached | None = None
    while reached and number < enough:
        number += 1
        soonest = min(reached.values(), key=lambda one: (one.after_s, one.began_at))
        if number < enough:
            reached = steps.next(reached, number + 1)
    return number, soonest
