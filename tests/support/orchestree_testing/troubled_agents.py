"""Agents whose first incarnation is in trouble for a while, so that a real tree does what a simulated one did."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent

TROUBLE_S: Final = 1.4
"""Seconds for which the first incarnation hears nothing."""


class Troubled(Agent):
    """Is in trouble once, in its first incarnation, and then well."""

    def setup(self) -> None:
        if self.incarnation == 1 and self.params["trouble"] == "slow start":
            time.sleep(TROUBLE_S)

    def execute(self) -> None:
        if self.incarnation == 1:
            time.sleep(TROUBLE_S)
        self.sleep(3600)


class AsyncTroubled(AsyncAgent):
    """What `Troubled` is, in an ``await``."""

    async def setup(self) -> None:
        if self.incarnation == 1 and self.params["trouble"] == "slow start":
            await asyncio.sleep(TROUBLE_S)

    async def execute(self) -> None:
        if self.incarnation == 1:
            await asyncio.sleep(TROUBLE_S)
        await self.sleep(3600)


class CrashesOnce(Agent):
    """Fails in its first incarnation as soon as the other one is up."""

    def execute(self) -> None:
        self.sleep(0.1)
        if self.incarnation == 1:
            raise RuntimeError("simulated")
        self.sleep(3600)
