"""Configuration of agents: what is accepted, and what each mistake is told as."""

from __future__ import annotations

import enum
import math
import pickle
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from orchestree.agents.agent import Agent, PeriodicAgent
from orchestree.agents.async_agent import PeriodicAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.agents.config import RESERVED_FIELDS, build_config
from orchestree.strategies.errors import SpecError

pytestmark = pytest.mark.portable


class Speed(enum.Enum):
    FAST = "f"
    SLOW = "s"


class Writer(PeriodicAgent):
    class Config(PeriodicAgent.Config):
        path: str
        speed: Speed | None = None
        size: Annotated[int, Field(ge=1)] = 10

    config: Config

    def runner(self) -> None: ...


class SlowWriter(Writer):
    class Config:
        """Slower."""

        interval = 5
        size = 2
        lines: int = 3


class SlowerWriter(Writer):
    class Config(Writer.Config):
        interval = 50.0


class StrayWriter(Writer):
    class Config(Agent.Config):
        extra: bool = False


class PlainWriter(Writer):
    class Config(Writer.Config):
        speed = Speed.SLOW
        path = "here"


def test_a_bare_override_of_a_field_without_rules_is_a_new_default() -> None:
    config = PlainWriter.Config()
    assert (config.path, config.speed) == ("here", Speed.SLOW)
    assert "path=5" in problem(PlainWriter.Config, path=5)


def problem(config: Any, **fields: Any) -> str:
    with pytest.raises(SpecError) as caught:
        config(**fields)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_configuration_shows_its_class_and_its_fields() -> None:
    config = Writer.Config(path="log")
    assert repr(config) == "Writer.Config(interval=1.0, path='log', speed=None, size=10)"


def test_an_int_becomes_a_float_and_nothing_else_is_coerced() -> None:
    config = Writer.Config(path="log", interval=3)
    assert isinstance(config.interval, float)
    assert problem(Writer.Config, path=3) == "Writer.Config: path=3: must be a valid string"
    assert problem(Writer.Config, path="log", interval="3").startswith("Writer.Config: interval='3': ")
    assert problem(Writer.Config, path="log", interval=True).startswith("Writer.Config: interval=True: ")


@pytest.mark.parametrize("name", ["fast", "FAST", "Fast"])
def test_the_name_of_an_enum_member_becomes_the_member(name: str) -> None:
    fields: dict[str, Any] = {"path": "log", "speed": name}
    assert Writer.Config(**fields).speed is Speed.FAST


def test_an_unknown_enum_name_is_told_with_the_known_ones() -> None:
    text = problem(Writer.Config, path="log", speed="fest")
    assert text == "Writer.Config: speed='fest': must be one of fast, slow (did you mean 'fast'?)"


def test_every_mistake_is_told_in_one_line() -> None:
    text = problem(Writer.Config, pth="log", size=0)
    assert text == (
        "Writer.Config: field 'path' is required; size=0: must be greater than or equal to 1; "
        "unknown field 'pth' (did you mean 'path'?)"
    )


def test_a_long_value_is_cut() -> None:
    assert len(problem(Writer.Config, path=["x" * 1000])) < 150


@pytest.mark.parametrize("interval", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("agent", [PeriodicAgent, PeriodicAsyncAgent, SlowWriter, SlowerWriter])
def test_an_interval_is_finite_and_above_0(agent: type[BaseAgent], interval: float) -> None:
    assert f"interval={interval}: " in problem(agent.Config, path="log", interval=interval)


def test_a_nested_config_without_a_base_extends_the_inherited_one() -> None:
    fields: dict[str, Any] = {"path": "log"}
    config = SlowWriter.Config(**fields)
    assert repr(config) == "SlowWriter.Config(interval=5.0, path='log', speed=None, size=2, lines=3)"
    assert isinstance(config, Writer.Config)
    assert SlowWriter.Config.__doc__ == "Slower."


def test_a_bare_override_keeps_the_type_and_the_rules_of_the_field() -> None:
    assert SlowerWriter.Config(path="log").interval == 50.0
    assert "size=0: " in problem(SlowWriter.Config, path="log", size=0)


def test_a_config_that_derives_from_an_older_one_gets_the_fields_between() -> None:
    fields: dict[str, Any] = {"path": "log", "extra": True}
    assert "path='log'" in repr(StrayWriter.Config(**fields))
    assert issubclass(StrayWriter.Config, Writer.Config)


def test_a_class_without_a_config_of_its_own_has_the_inherited_one() -> None:
    class Quiet(Writer):
        pass

    assert Quiet.Config is Writer.Config


def test_a_wrong_default_is_told_when_it_is_used() -> None:
    class Hasty(PeriodicAgent):
        class Config(PeriodicAgent.Config):
            interval = -1.0

        def runner(self) -> None: ...

    assert problem(Hasty.Config) == "Hasty.Config: interval=-1.0: must be greater than 0"


def test_a_misspelt_override_is_told_when_the_class_is_made() -> None:
    with pytest.raises(SpecError, match=r"intervall.*did you mean 'interval'"):

        class Hasty(PeriodicAgent):
            class Config(PeriodicAgent.Config):
                intervall = 5.0


@pytest.mark.parametrize("field", sorted(RESERVED_FIELDS))
def test_a_field_named_like_an_entry_field_is_refused_when_the_class_is_made(field: str) -> None:
    body = type("Config", (), {"__annotations__": {field: int}})
    with pytest.raises(SpecError, match=f"{field!r} is an entry field"):
        type("Clash", (Agent,), {"Config": body})


def test_an_annotation_that_names_nothing_is_a_mistake_in_one_line() -> None:
    class Typo(Agent):
        class Config(Agent.Config):
            path: strr  # type: ignore[name-defined]  # noqa: F821

        def execute(self) -> None: ...

    assert "`strr`" in problem(Typo.Config, path="log")


@pytest.mark.parametrize("agent", [Writer, SlowWriter, SlowerWriter, StrayWriter])
def test_a_configuration_is_pickled_by_the_name_of_its_class(agent: type[BaseAgent]) -> None:
    assert agent.Config.__module__ == __name__
    assert agent.Config.__qualname__ == f"{agent.__name__}.Config"
    assert agent.Config is agent.__dict__["Config"]


def test_a_configuration_survives_pickling() -> None:
    config = PeriodicAgent.Config(interval=2.0)
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_configuration_is_frozen() -> None:
    config = Writer.Config(path="log")
    with pytest.raises(ValidationError, match="frozen"):
        config.path = "other"


# build_config


def test_config_fields_make_a_configuration() -> None:
    assert build_config(Writer, None, {"path": "log"}, []) == Writer.Config(path="log")


def test_a_ready_configuration_is_used_as_it_is() -> None:
    config = Writer.Config(path="log")
    assert build_config(Writer, config, {}, []) is config


def test_fields_override_a_copy_of_the_configuration_that_is_checked_again() -> None:
    config = Writer.Config(path="log", size=3)
    assert build_config(Writer, config, {"path": "new"}, []) == Writer.Config(path="new", size=3)
    assert config.path == "log"
    with pytest.raises(SpecError, match="size=0: "):
        build_config(Writer, config, {"size": 0}, [])


def test_the_configuration_of_a_subclass_stays_what_it_is() -> None:
    config = SlowerWriter.Config(path="log")
    assert build_config(Writer, config, {"size": 4}, []) == SlowerWriter.Config(path="log", size=4)


def test_a_configuration_of_another_class_is_refused_with_the_expected_one() -> None:
    with pytest.raises(SpecError, match=r"^Writer: config must be a Writer\.Config, not PeriodicAgent\.Config"):
        build_config(Writer, PeriodicAgent.Config(), {}, [])


@pytest.mark.parametrize(
    ("key", "meant"), [("pth", "did you mean 'path'"), ("restrat", "did you mean 'restart'"), ("zzz", "'zzz'")]
)
def test_an_unknown_key_is_compared_with_config_and_entry_fields(key: str, meant: str) -> None:
    with pytest.raises(SpecError, match=meant):
        build_config(Writer, None, {"path": "log", key: 1}, ["restart", "shutdown"])
