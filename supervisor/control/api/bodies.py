"""What may stand in the body of a request, and how it is read. Unknown fields, and what is not JSON, are refused."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

from pydantic import ConfigDict, Field
from tenacity import stop_after_attempt, wait_chain, wait_exponential, wait_none

from orchestree.agents.config import StrictConfig
from orchestree.strategies.backoff import DEFAULT_WAIT, Backoff, GiveUp, WaitPolicy
from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdownName, RestartName, StrategyName
from orchestree.supervisor.entry_fields import INHERIT, BackoffChoice

from .problems import Problem

MAX_BODY: Final = 1_000_000
"""Bytes."""

BODY_S: Final = 10.0
"""Seconds in which a body has to come."""

MOST_KEYS: Final = 50
"""Of one object. A mistake is described for each wrong one, in the loop that everybody else waits for, too."""

LONGEST_KEY: Final = 100
LONGEST_VALUE: Final = 1_000
"""Characters."""

_NOT_GIVEN: Final[Any] = None

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class Body(StrictConfig):
    """Base of all bodies: an object of JSON, all of whose fields may be left out."""

    model_config = ConfigDict(validate_default=False, json_schema_extra=_without_defaults)

    def __repr_name__(self) -> str:
        """Return what a mistake is found in."""
        return "body"

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, in the order of their declaration."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class NoFields(Body):
    """An empty object."""


Seconds = Annotated[float, Field(ge=0, le=1e9)]
SomeSeconds = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class ShutdownBody(Body):
    """How the tree is stopped.

    Attributes:
        timeout: seconds after which all that is left is killed or abandoned; null for no limit.
    """

    timeout: Seconds | None = None


class BackoffBody(Body):
    """A policy of delays. A field that is left out has the value of `Backoff()`.

    Attributes:
        initial: seconds before the first restart of a streak. Left out: the first is at once, the second after 0.25.
        factor: by which each further delay is longer.
        max: seconds that no delay exceeds.
        jitter: share, 0 to 1, by which a delay may be shorter.
        stable_after: seconds of being ready after which the streak begins anew.
        attempts: failures in a row at which it is given up on; null for never.
        on_give_up: what then happens.
    """

    initial: Seconds = _NOT_GIVEN
    factor: Annotated[float, Field(ge=1, le=1000)] = 2.0
    max: Seconds = 30.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.25
    stable_after: Seconds = 30.0
    attempts: Annotated[int, Field(ge=1, le=10**9)] | None = None
    on_give_up: GiveUp = "park"

    def policy(self) -> Backoff:
        """Return what it says."""
        stop = None if self.attempts is None else stop_after_attempt(self.attempts)
        jitter, stable_after, on_give_up = self.jitter, self.stable_after, self.on_give_up
        return Backoff(self._wait(), stop, jitter, stable_after, on_give_up)

    def _wait(self) -> WaitPolicy:
        if not {"initial", "factor", "max"} & self.model_fields_set:
            return DEFAULT_WAIT
        if "initial" in self.model_fields_set:
            return wait_exponential(multiplier=self.initial, exp_base=self.factor, max=self.max)
        grows = wait_exponential(multiplier=0.25 / self.factor, exp_base=self.factor, max=self.max)
        return wait_chain(wait_none(), grows)


class PolicyBody(Body):
    """Fields of the policy to change, see `Orchestrator.reconfigure`; which of them there are depends on the child."""

    restart: RestartName = _NOT_GIVEN
    strategy: StrategyName | None = _NOT_GIVEN
    backoff: BackoffBody | Literal["inherit"] | None = _NOT_GIVEN
    shutdown: Seconds | Literal["brutal_kill", "infinity"] = _NOT_GIVEN
    start_timeout: SomeSeconds | None = _NOT_GIVEN
    watchdog: SomeSeconds | None = _NOT_GIVEN
    max_memory: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = _NOT_GIVEN
    max_age: SomeSeconds | None = _NOT_GIVEN
    significant: bool = _NOT_GIVEN
    replace_wedged: bool = _NOT_GIVEN
    max_restarts: Count = _NOT_GIVEN
    max_seconds: SomeSeconds = _NOT_GIVEN
    auto_shutdown: AutoShutdownName = _NOT_GIVEN
    max_children: Count | None = _NOT_GIVEN

    def changes(self) -> dict[str, Any]:
        """Return the fields to change as `Orchestrator.reconfigure` takes them."""
        return {name: _policy(value) if name == "backoff" else value for name, value in self.given().items()}


def _policy(value: BackoffBody | Literal["inherit"] | None) -> BackoffChoice:
    if isinstance(value, BackoffBody):
        return value.policy()
    return INHERIT if value == "inherit" else None


_Body = TypeVar("_Body", bound=Body)


async def read_body(kind: type[_Body], headers: Mapping[str, str], receive: Receive) -> _Body:
    """Return the body of a request; an empty one is an empty object.

    Args:
        kind: of body.
        headers: names in lower case.
        receive: of ASGI.

    Raises:
        Problem: ``unsupported_media_type``, ``too_large``, ``bad_request``.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem("unsupported_media_type", "Content-Type must be application/json")
    text = await _read(headers.get("content-length", ""), receive)
    given = parse(text) if text.strip() else {}
    if not isinstance(given, dict):
        raise Problem("bad_request", "body: must be an object of JSON")
    try:
        return kind(**given)
    except SpecError as error:
        raise Problem("bad_request", str(error)) from None


def parse(text: bytes) -> object:
    """Return what strict JSON says. Raises `Problem`: it is not valid, or says a key twice, NaN, or too much."""
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
        )
    except RecursionError:
        raise Problem("bad_request", "body: too deep") from None
    except ValueError as error:  # also of text that is not UTF-8, and of numbers of thousands of digits
        raise Problem("bad_request", f"body: not valid JSON: {error}") from None


async def _read(declared: str, receive: Receive) -> bytes:
    too_large = Problem("too_large", f"body: more than {MAX_BODY} bytes", {"connection": "close"})
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > MAX_BODY):
        raise too_large
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_S):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem("bad_request", "body: the connection was closed before its end")
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise too_large
                more = message.get("more_body", False)
    except TimeoutError:
        raise Problem("bad_request", f"body: not there within {BODY_S:g} s", {"connection": "close"}) from None
    return bytes(body)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; refuse what no body holds, before time is spent on telling what is wrong with it."""
    if len(pairs) > MOST_KEYS:
        raise Problem("bad_request", f"body: an object with more than {MOST_KEYS} keys")
    for key, value in pairs:
        if len(key) > LONGEST_KEY:
            raise Problem("bad_request", f"body: {key[:80]!r}...: a key of more than {LONGEST_KEY} characters")
        if isinstance(value, list):
            raise Problem("bad_request", f"body: {key}: must not be an array")
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise Problem("bad_request", f"body: {key}: must have at most {LONGEST_VALUE} characters")
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} stands twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text[:80]} is too large")
    return found
