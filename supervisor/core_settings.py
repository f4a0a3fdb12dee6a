"""What a core is built from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from orchestree.strategies.backoff import Backoff

from .states import RunMode

ChooseNext = Callable[[tuple[str, ...]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a core is built from; `Orchestrator.Config` has the meaning of each.

    Attributes:
        socket: path of the control socket, for people; empty if there is none.
        metrics_port: at which the metrics are served, for people; None if they are not.
        metrics_host: the address there.
        killable: names of the executors whose runs can be killed.
        draw: seeded source of numbers in [0, 1) for jitter.
        seed: of `draw`, for whoever wants to draw the same once more; None if that cannot be.
        choose_next: picks one of the queued paths (in start order); None or an unknown path means the first.
    """

    name: str = "orchestree"
    socket: str = ""
    metrics_port: int | None = None
    metrics_host: str = ""
    run_mode: RunMode = RunMode.DAEMON
    backoff: Backoff | None = field(default_factory=Backoff)
    max_workers: int | None = None
    strict_start: bool = False
    killable: Container[str] = frozenset({"process"})
    draw: Callable[[], float] = lambda: 0.0
    seed: int | None = None
    choose_next: ChooseNext | None = None
