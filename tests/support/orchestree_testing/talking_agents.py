"""Agents that talk: some let their secrets out in every way there is, in each executor; others only say a line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger
from pydantic import SecretStr

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.base import BaseAgent

PASSWORD: Final = "hunter2-the-password"
TOKEN: Final = "tok-0123456789"
KEY: Final = "-----BEGIN-----\nfirst-line-of-the-key\nsecond-line-of-the-key\n-----END-----"
NEEDLES: Final = (PASSWORD, TOKEN, "first-line-of-the-key", "second-line-of-the-key")


def secrets() -> dict[str, Any]:
    """Return what to register an agent of this file with."""
    return {
        "password": SecretStr(PASSWORD),
        "params": {"token": TOKEN, "more": {"private_key": KEY}},
    }


@dataclass
class Note:
    text: str


def leak(agent: BaseAgent) -> None:
    """Log, emit, print and say the secrets."""
    password = agent.config.password.get_secret_value()  # type: ignore[attr-defined]
    token, key = agent.params["token"], agent.params["more"]["private_key"]
    agent.logger.info("logged {} {}", password, token)
    agent.logger.bind(mine=password, deep={"list": [token]}).warning("bound {key}", key=key)
    try:
        raise LookupError(f"caught {password} {key!r}")
    except LookupError:
        agent.logger.exception("an exception with {}", token)
    agent.emit(f"emit-{password}", text=f"is {password}", api_key=5, nested=[{"a": token}], note=Note(key))
    print(f"printed {password} {token}")
    print(f"printed {key}", file=sys.stderr)
    agent.progress(f"busy with {password}")


def leak_and_crash(agent: BaseAgent) -> None:
    """Leak, and raise with the secrets."""
    leak(agent)
    try:
        raise OSError(f"inner {agent.params['token']}")
    except OSError as error:
        password = agent.config.password.get_secret_value()  # type: ignore[attr-defined]
        raise ValueError(f"no login with {password}") from error


class LeakingConfig(Agent.Config):
    """Whether to crash or to hang."""

    password: SecretStr
    hang: bool = False


class Leaking(Agent):
    class Config(LeakingConfig):
        pass

    config: Config

    def execute(self) -> None:
        if self.config.hang:
            leak(self)
            self.sleep(3600)
        else:
            leak_and_crash(self)

    def teardown(self) -> None:
        raise RuntimeError(f"teardown with {self.params['token']}")


class AsyncLeaking(AsyncAgent):
    class Config(LeakingConfig):
        pass

    config: Config

    async def execute(self) -> None:
        if self.config.hang:
            leak(self)
            await self.sleep(3600)
        else:
            leak_and_crash(self)

    async def teardown(self) -> None:
        raise RuntimeError(f"teardown with {self.params['token']}")


class LeakingByAnyLogger(Leaking):
    """Logs in its process by the logger of the module, not by its own."""

    def execute(self) -> None:
        try:
            raise LookupError(self.params["token"])
        except LookupError:
            logger.exception("by any logger {}", self.params["token"])
        self.emit("logged")
        self.sleep(3600)


class Speaker(Agent):
    """Says one line in each way; in `teardown` one more."""

    def execute(self) -> None:
        self.logger.warning("logged by {}", self.path)
        print("printed on stdout")
        print("printed on stderr\nand ", end="", file=sys.stderr)
        print("the end of its line", file=sys.stderr)
        self.emit("said")
        self.sleep(3600)

    def teardown(self) -> None:
        self.logger.info("last words")


class AsyncSpeaker(AsyncAgent):
    """What `Speaker` is."""

    async def execute(self) -> None:
        self.logger.warning("logged by {}", self.path)
        self.emit("said")
        await self.sleep(3600)

    async def teardown(self) -> None:
        self.logger.info("last words")
