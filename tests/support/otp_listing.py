"""The rows of OTP's rules that no test proves: those where Orchestree differs, and those without a counterpart.

A row stands here or carries a mark (``@pytest.mark.otp``), never both; `test_every_row.py` holds this file and the
table of the README to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECTIONS: Final = {
    "F": ("supervisor flags", 10),
    "C": ("child specifications", 17),
    "I": ("starting", 13),
    "R": ("restart type and exit reason", 10),
    "O": ("strategies", 11),
    "X": ("restart intensity", 14),
    "Y": ("failed restarts", 9),
    "T": ("termination and shutdown", 14),
    "A": ("significant children, auto_shutdown", 11),
    "D": ("dynamic API", 16),
    "Q": ("simple_one_for_one", 6),
    "L": ("reports", 7),
    "P": ("trees, parents, names", 14),
    "U": ("change of policy at run time", 4),
    "E": ("Elixir: DynamicSupervisor, PartitionSupervisor, Task.Supervisor, Registry", 22),
}
"""For each letter what its rows are about, and how many there are: ``F01`` to ``F10``, and so on."""

ROWS: Final = tuple(f"{letter}{number:02}" for letter, (_, count) in SECTIONS.items() for number in range(1, count + 1))


@dataclass(frozen=True, slots=True)
class Difference:
    """A rule that Orchestree does not follow.

    Attributes:
        otp: what OTP (or Elixir) does.
        ours: what Orchestree does.
        decided_by: words of the design contract that decide it.
    """

    otp: str
    ours: str
    decided_by: str


_WINDOW: Final = "`max_restarts: int = 10`, `max_seconds: float = 10.0` on every supervisor"
_TAKES_OUT: Final = "`stop_agent` or `unregister_agent` of a member takes it out"

DIFFERS: Final = {
    "F01": Difference("by default 1 restart in 5 s", "10 in 10 s", _WINDOW),
    "F10": Difference("Elixir: the strategy is required, 3 restarts in 5 s", "`one_for_one`, 10 in 10 s", _WINDOW),
    "C01": Difference("a worker is permanent by default", "transient", "Agents default to **TRANSIENT**"),
    "C15": Difference(
        "arguments of a temporary child are dropped once it has started",
        "when it leaves the tree, as `restart_agent` may start it once more",
        "`restart_agent` is ours (stop, then start at once",
    ),
    "I02": Difference(
        "children start one after the other",
        "only under `rest_for_one`; else side by side, unless `depends_on` says otherwise",
        "under the other strategies only `depends_on` makes a start wait, the rest start side by side",
    ),
    "O05": Difference(
        "a group restart starts all of its members",
        "but for those that an operator stopped, or that parked",
        "members stopped by an operator or parked stay so (differs from O05)",
    ),
    "Y03": Difference("delete_child of a child that waits to be restarted is refused", "it is taken out", _TAKES_OUT),
    "D06": Difference(
        "restart_child returns what went wrong in the start, the child stays down",
        "a failure like any other: restart type, backoff, window",
        "A child's failure is data (`ExitReason`, `CrashReport`), never an exception in the caller",
    ),
    "D08": Difference("delete_child: `restarting`", "a child in BACKOFF is stopped and removed", _TAKES_OUT),
    "D13": Difference(
        "stop with a time: whoever asked exits when it is over, the supervisor goes on stopping",
        "then all that is left is killed or abandoned; an ended tree is fine",
        "`stop(timeout)` is a deadline for the whole tree after which everything left is killed or abandoned at once",
    ),
    "D14": Difference("stop with a reason, which is logged", "no reason", "`start() stop(timeout=None)`"),
    "Q01": Difference(
        "one template for all children of a dynamic supervisor",
        "each child has its own specification",
        "`AgentEntry(agent, name, *, ...)`: the frozen child spec",
    ),
    "Q03": Difference(
        "calls by id are refused, a child is terminated by its pid",
        "each child has a path, and every call works",
        "OTP's dynamic API: start_child = `register_agent` on a running tree",
    ),
    "Q04": Difference(
        "starts of dynamic children are not reported", "every start is an event", "Every decision is exactly one event"
    ),
    "L03": Difference(
        "a failed start_child is not reported",
        "it is an event, beside the `StartError`",
        "An abnormal end is `AGENT_CRASHED`, followed in the same decision by",
    ),
    "P02": Difference(
        "children that came by start_child are lost when their supervisor restarts",
        "kept; a dynamic supervisor starts empty",
        "keeps it over restarts of its supervisor (differs from P02)",
    ),
    "P12": Difference("names by a `via` module", "the tree is the only registry", "a path joins them with `/`"),
    "E02": Difference("Elixir: a dynamic supervisor allows 3 restarts in 5 s", "10 in 10 s", _WINDOW),
    "E03": Difference("Elixir: ids of dynamic children do not matter", "names are unique", "unique among siblings"),
    "E06": Difference(
        "Elixir: extra arguments of the supervisor come before those of each child",
        "each child has its own `params`; partitions have `with_params`",
        "`params` is a mapping of any objects",
    ),
}

READINGS: Final = {
    "I03": "a call from inside a start is handed in and answered at once, instead of refused",
    "I04": "a start succeeds whatever it returns, unless that is IGNORE; the same for P09, Q02 and E07",
    "I05": "`raise Shutdown` in a start is an end by the agent's own wish, no failed start",
    "L05": "that a supervisor gave up is told when its children are down, with the child that made it",
    "L06": "each child that was stopped has an event of its own, also in a dynamic supervisor; the same for T11",
    "O10": "there are no links: an event handler makes one",
    "T06": "any end after being asked to stop is a shutdown, a normal one of a permanent child too; the same for E11",
    "U01": "a child that is added to a running supervisor is also started",
    "X02": "exact seconds instead of whole ones",
}
"""Id -> which detail of a row that is proved reads differently in Python."""

NOT_APPLICABLE: Final = {
    "F09": "hibernation (row F09: no): a Python object has nothing to hibernate",
    "C07": "modules of a child (row C07: no): no code is replaced at run time",
    "I12": "a child that its supervisor is not linked to (row I12: n/a): the executor owns the handle of every run",
    "E22": "supervision of a registry's partitions (n/a in the row itself): names have no partitions",
}
"""Id -> what it is about, and why it has no counterpart in Python."""
