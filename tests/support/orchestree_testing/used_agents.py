"""What agents do whose use of the machine, and whose beats, are looked at from outside."""

from __future__ import annotations

import os
import time

from orchestree.agents.agent import Agent

BURNT_S = 0.3
"""Seconds of processor time that `burn` takes."""


def burn(agent: Agent) -> None:
    """Use up processor time, and end; but for the fourth incarnation, which then waits to be stopped."""
    _burn()
    if agent.incarnation > 3:
        agent.sleep(3600)


def burn_and_wait(agent: Agent) -> None:
    """Use up processor time, say so, and wait to be stopped."""
    _burn()
    agent.emit("burnt")
    agent.sleep(3600)


def burn_in_a_child(agent: Agent) -> None:
    """Have a child use up processor time, and wait for it."""
    child = os.fork()
    if child == 0:
        _burn()
        os._exit(0)
    os.waitpid(child, 0)


def wait_for_params(agent: Agent) -> None:
    """Wait on purpose for as many seconds as ``params`` says."""
    seconds: float = agent.params["seconds"]
    agent.sleep(seconds)


def _burn() -> None:
    until = time.process_time() + BURNT_S
    while time.process_time() < until:
        pass
