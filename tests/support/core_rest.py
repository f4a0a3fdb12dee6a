"""What must hold of a tree that has come to rest: everything is as it was asked for, or says what keeps it from it."""

from __future__ import annotations

from collections.abc import Mapping

from core_child import Child
from core_ledger import Ledger
from core_order import blockers

from orchestree.strategies.restart import Restart


def check_at_rest(ledger: Ledger, observed: Mapping[str, str], waiting_for: Mapping[str, tuple[str, ...]]) -> None:
    """Check each child; nothing is in motion and no timer runs.

    Args:
        observed: the state of each path, as readers see it.
        waiting_for: the names that each path is said to wait for.
    """
    for child in ledger.children.values():
        parent = child.parent
        assert not (child.gives_up and child.runs), f"{child} was to end: {child.gives_up}"
        if parent is None:
            continue
        if child.phase == "waiting" or (not child.is_agent and observed[child.path] == "waiting"):
            certain, possible = {*blockers(child, if_in_doubt=True)}, {*blockers(child)}
            assert possible, f"{child} waits for nothing"
            said = {*waiting_for[child.path]}
            assert said, f"{child} does not say what it waits for"
            assert certain <= said <= possible, f"{child} waits for {certain} or {possible}, and says {said}"
        elif parent.phase not in ("starting", "ready"):
            assert not child.runs, f"{child} runs in {parent}"
            assert not child.waits, f"{child} still waits in {parent}"
        elif child.held:
            assert not child.runs, f"{child} runs, and nobody wants it to"
            assert not child.waits, f"{child} would come back, and nobody wants it to"
        elif child.is_agent:
            assert child.phase in ("ready", "completed", "queued"), f"{child} should run"
        else:
            _check_supervisor(child)


def _check_supervisor(child: Child) -> None:
    match child.phase:
        case "ready":
            pass
        case "starting":
            missing = [below for below in child.sequence if not below.was_up]
            excused = [below for below in missing if below.held and below.phase != "parked"]
            assert len(missing) > len(excused), f"all of {child} is up"
        case _:
            assert child.ended_as is not Restart.PERMANENT, f"{child} should run"
            assert child.phase in ("completed", "failed", "terminated"), f"{child} should run"
