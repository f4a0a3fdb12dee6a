"""Settings from outside of the code: what each key means, what its value becomes, and what is refused how."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator

from orchestree.agents import Agent, AsyncAgent, LoopingAgent
from orchestree.strategies import AutoShutdown, Backoff, Restart, Strategy
from orchestree.strategies.errors import SpecError
from orchestree.supervisor import AgentEntry, Orchestrator, RunMode, SupervisorEntry
from orchestree.supervisor.control.settings.applying import apply
from orchestree.supervisor.control.settings.keys import Given, Setting, option, toml_tables, variables
from orchestree.supervisor.control.settings.shown import EffectiveValue, as_text, effective_values
from orchestree.supervisor.entry_fields import INHERIT


class Mode(Enum):
    SLOW = 1
    FAST = 2


class Writer(LoopingAgent):
    class Config(LoopingAgent.Config):
        path: str = "log.txt"
        folder: Path = Path("/tmp")
        size: int | None = None
        share: float = Field(default=0.5, ge=0, le=1)
        mode: Mode = Mode.SLOW
        tags: tuple[str, ...] = ()
        limits: dict[str, int] = {}  # noqa: RUF012
        either: bool | str = False
        marks: tuple[str, ...] = Field(default_factory=tuple)
        token: SecretStr = SecretStr("from-the-code")
        db_password: str = ""

        @field_validator("db_password")
        @classmethod
        def _is_long(cls, value: str) -> str:
            if value == "short":
                raise ValueError(f"{value} is not long enough")
            if value == "abc":
                raise ValueError(f"{value} is shorter than what is looked for in texts")
            if value == "raises":
                raise KeyError(value[1:])
            return value

    config: Config

    def runner(self) -> None: ...


class Other(AsyncAgent):
    async def execute(self) -> None: ...


def tree(**config: Any) -> Orchestrator:
    made = Orchestrator(Orchestrator.Config(**{"run_mode": RunMode.DAEMON, "control": False} | config))
    made.register_agent(Writer, "writer-a", path="a.txt")
    made.register_agent(Writer, "writer-b", depends_on=["writer-a"])
    ingest = made.add_supervisor("ingest", max_restarts=3)
    ingest.register_agent(Writer, "collector")
    made.add_supervisor("pool", dynamic=True)
    return made


def given(*options: str, toml: str = "", **environment: str) -> Given:
    settings = [setting for text in options if (setting := option(text)) is not None]
    tables = toml_tables(toml, "prod.toml") if toml else {}
    return Given(tuple(settings), "prod.toml", tables, variables(environment))


def changed(*options: str, toml: str = "", **environment: str) -> Orchestrator:
    made = tree()
    apply(given(*options, toml=toml, **environment), made)
    return made


def refusal(*options: str, toml: str = "", made: Orchestrator | None = None, **environment: str) -> str:
    """Return the one line that these settings are refused with; nothing has changed then."""
    made = made or tree()
    before = (made.config, made.draft.root, made.draft.children())
    with pytest.raises(SpecError) as caught:
        apply(given(*options, toml=toml, **environment), made)
    assert (made.config, made.draft.root, made.draft.children()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def agent(made: Orchestrator, path: str) -> AgentEntry:
    entry = made.get_childspec(path)
    assert isinstance(entry, AgentEntry)
    return entry


def supervisor(made: Orchestrator, path: str) -> SupervisorEntry:
    entry = made.get_childspec(path)
    assert isinstance(entry, SupervisorEntry)
    return entry


def config(made: Orchestrator, path: str = "writer-a") -> Writer.Config:
    found = agent(made, path).config
    assert isinstance(found, Writer.Config)
    return found


def effective(made: Orchestrator, *options: str, **environment: str) -> dict[str, EffectiveValue]:
    sources = apply(given(*options, **environment), made)
    return {one.key: one for one in effective_values(made, sources)}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("max_workers", "4", 4),
        ("max_workers", "none", None),
        ("max_workers", "null", None),
        ("history", "events.db", "events.db"),
        ("history", "none", None),
        ("control", "false", False),
        ("control", "True", True),
        ("control", "/run/tree.sock", "/run/tree.sock"),
        ("run_mode", "stop_on_empty", RunMode.STOP_ON_EMPTY),
        ("run_mode", "STOP_ON_EMPTY", RunMode.STOP_ON_EMPTY),
        ("name", "12", "12"),
        ("max_seconds", "2", 2.0),
        ("control_permissions", "operate", "operate"),
        ("control_permissions", '["logs", "ps"]', frozenset({"logs", "ps"})),
        ("backoff", "none", None),
        ("metrics_port", "9464", 9464),
        ("metrics_host", "::1", "::1"),
        ("metrics_token", "12", SecretStr("12")),
    ],
)
def test_text_becomes_a_value_of_the_configurations_field(field: str, text: str, value: object) -> None:
    found = getattr(changed(f"{field}={text}").config, field)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("path", "123", "123"),
        ("path", "none", "none"),
        ("path", "a=b", "a=b"),
        ("path", "", ""),
        ("folder", "/var/log", Path("/var/log")),
        ("size", "12", 12),
        ("size", "none", None),
        ("share", "1", 1.0),
        ("mode", "fast", Mode.FAST),
        ("mode", "2", Mode.FAST),
        ("tags", '["a", "b"]', ("a", "b")),
        ("limits", '{"a": 1}', {"a": 1}),
        ("either", "true", True),
        ("either", "12", "12"),
    ],
)
def test_text_becomes_a_value_of_the_agents_own_field(field: str, text: str, value: object) -> None:
    found = getattr(config(changed(f"agents.writer-a.{field}={text}")), field)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("restart", "permanent", Restart.PERMANENT),
        ("strategy", "one_for_all", Strategy.ONE_FOR_ALL),
        ("strategy", "none", None),
        ("shutdown", "2", 2.0),
        ("shutdown", "infinity", "infinity"),
        ("shutdown", "brutal_kill", "brutal_kill"),
        ("start_timeout", "none", None),
        ("watchdog", "1.5", 1.5),
        ("executor", "process", "process"),
        ("depends_on", "[]", ()),
        ("significant", "false", False),
        ("replace_wedged", "true", True),
        ("backoff", "none", None),
        ("backoff", "inherit", INHERIT),
        ("backoff", '{"jitter": 0}', Backoff(jitter=0.0)),
    ],
)
def test_text_becomes_a_value_of_the_entrys_field(field: str, text: str, value: object) -> None:
    found = getattr(agent(changed(f"agents.writer-b.{field}={text}"), "writer-b"), field)
    assert (found, type(found)) == (value, type(value))


def test_what_only_goes_together_is_set_together() -> None:
    entry = agent(changed("agents.writer-a.max_memory=1000000", "agents.writer-a.executor=process"), "writer-a")
    assert (entry.executor, entry.max_memory) == ("process", 1_000_000)


def test_what_is_not_set_stays_as_the_code_says() -> None:
    made = changed("agents.writer-a.size=3", "max_workers=4")
    assert (config(made).path, config(made).size) == ("a.txt", 3)
    assert agent(made, "writer-b").depends_on == ("writer-a",)
    assert (made.config.control, made.config.run_mode) == (False, RunMode.DAEMON)
    assert [step.path for step in made.check()] == ["writer-a", "writer-b", "ingest", "ingest/collector", "pool"]


def test_the_default_backoff_of_the_run_mode_stays_the_default() -> None:
    policy = changed("run_mode=stop_on_empty").config.default_backoff()
    assert policy is not None
    assert policy.stop is not None


def test_the_policy_of_the_root_is_set_by_the_configuration_and_the_rest_of_it_stays() -> None:
    made = tree()
    made.reconfigure("", max_restarts=7)
    apply(given("strategy=rest_for_one", "max_seconds=3"), made)
    root = supervisor(made, "")
    assert (root.strategy, root.max_seconds, root.max_restarts) == (Strategy.REST_FOR_ONE, 3.0, 7)


def test_supervisors_are_set_by_their_path_and_keep_their_children() -> None:
    made = changed("supervisors.ingest.max_restarts=5", "supervisors.pool.max_children=9")
    assert supervisor(made, "ingest").max_restarts == 5
    assert supervisor(made, "pool").max_children == 9
    assert agent(made, "ingest/collector").name == "collector"


def test_of_paths_with_dots_the_longest_known_one_counts() -> None:
    made = tree()
    made.register_agent(Writer, "a")
    made.register_agent(Writer, "a.b")
    apply(given("agents.a.path=short", "agents.a.b.path=long"), made)
    assert [config(made, name).path for name in ("a", "a.b")] == ["short", "long"]


def test_a_tree_that_was_changed_runs_with_it() -> None:
    made = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, control=False, backoff=None))

    class Told(Agent):
        class Config(Agent.Config):
            word: str = "code"

        config: Config

        def execute(self) -> str:
            return self.config.word

    made.register_agent(Told, "told")
    apply(given("agents.told.word=outside"), made)
    made.start()
    assert made.join(30)
    assert made.status("told").result == "outside"


TOML = """
max_workers = 4
[agents.writer-a]
path = "from-toml"
tags = ["a"]
folder = "/var"
limits = {a = 1}
[agents."ingest/collector"]
shutdown = "infinity"
[supervisors.ingest]
auto_shutdown = "any_significant"
"""


def test_a_toml_file_has_the_same_keys_as_tables() -> None:
    made = changed(toml=TOML)
    assert made.config.max_workers == 4
    found = config(made)
    assert (found.path, found.tags, found.folder, found.limits) == ("from-toml", ("a",), Path("/var"), {"a": 1})
    assert agent(made, "ingest/collector").shutdown == "infinity"
    assert supervisor(made, "ingest").auto_shutdown is AutoShutdown.ANY_SIGNIFICANT


def test_names_with_dots_need_no_quotes_in_toml() -> None:
    made = tree()
    made.register_agent(Writer, "a")
    made.register_agent(Writer, "a.b")
    apply(given(toml='[agents.a]\npath = "short"\nlimits = {x = 1}\n[agents.a.b]\npath = "long"'), made)
    assert [config(made, name).path for name in ("a", "a.b")] == ["short", "long"]
    assert config(made, "a").limits == {"x": 1}


def test_values_of_toml_are_not_converted() -> None:
    assert refusal(toml='max_workers = "4"').startswith("prod.toml: max_workers: Orchestrator.Config: max_workers='4'")
    assert refusal(toml="[agents.writer-a]\npath = 123").startswith("prod.toml: agents.writer-a.path: ")


def test_variables_are_written_in_capitals() -> None:
    made = changed(
        ORCHESTREE_MAX_WORKERS="4",
        ORCHESTREE_AGENTS__WRITER_A__PATH="123",
        ORCHESTREE_AGENTS__INGEST_COLLECTOR__START_TIMEOUT="none",
        ORCHESTREE_SUPERVISORS__INGEST__MAX_RESTARTS="1",
    )
    assert (made.config.max_workers, config(made).path) == (4, "123")
    assert agent(made, "ingest/collector").start_timeout is None
    assert supervisor(made, "ingest").max_restarts == 1


def test_a_variable_that_means_two_fields_is_refused() -> None:
    made = tree()
    made.register_agent(Writer, "writer_a")
    assert refusal(made=made, ORCHESTREE_AGENTS__WRITER_A__PATH="x") == (
        "ORCHESTREE_AGENTS__WRITER_A__PATH: means agents.writer-a.path and agents.writer_a.path; "
        "set them with --set or in a file"
    )


def test_variables_that_mean_something_else_are_left_alone() -> None:
    names = ("SOCKET", "RUN", "TEST_MARK", "TEST_ROUNDS", "TORTURE_SEED", "FUZZ_SECONDS")
    assert (
        variables({f"ORCHESTREE_{name}": "x" for name in names} | {"PATH": "/bin", "_ORCHESTREE_COMPLETE": "y"}) == ()
    )


def test_an_option_beats_the_file_and_that_the_variable_and_that_the_code() -> None:
    name = {"ORCHESTREE_AGENTS__WRITER_A__PATH": "variable"}
    in_file = '[agents.writer-a]\npath = "file"'
    option = "agents.writer-a.path=option"
    assert config(changed(**name)).path == "variable"
    assert config(changed(toml=in_file, **name)).path == "file"
    assert config(changed("agents.writer-a.path=first", option, toml=in_file, **name)).path == "option"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_worker=4", "--set max_worker: unknown key (did you mean 'max_workers'?)"),
        ("agent.writer-a.path=4", "--set agent.writer-a.path: unknown key (did you mean 'agents'?)"),
        ("agents=4", "--set agents: names no field; write agents.PATH.FIELD"),
        ("agents.writer-a=4", "--set agents.writer-a: names no field; write agents.PATH.FIELD"),
        ("agents.wrter-a.path=x", "--set agents.wrter-a.path: no such agent 'wrter-a' (did you mean 'writer-a'?)"),
        (
            "supervisors.ingst.max_restarts=1",
            "--set supervisors.ingst.max_restarts: no such supervisor 'ingst' (did you mean 'ingest'?)",
        ),
        ("agents.ingest.path=x", "--set agents.ingest.path: 'ingest' is a supervisor; write supervisors.ingest.FIELD"),
        (
            "supervisors.writer-a.restart=x",
            "--set supervisors.writer-a.restart: 'writer-a' is an agent; write agents.writer-a.FIELD",
        ),
        (
            "agents.pool/one.path=x",
            "--set agents.pool/one.path: 'pool' is dynamic: its children come when the tree runs, "
            "and cannot be set from here",
        ),
        (
            "agents.writer-a.pth=x",
            "--set agents.writer-a.pth: 'writer-a' has no field 'pth' that can be set (did you mean 'path'?)",
        ),
        (
            "supervisors.ingest.dynamic=true",
            "--set supervisors.ingest.dynamic: 'ingest' has no field 'dynamic' that can be set",
        ),
        (
            "agents.writer-a.restart=permament",
            "--set agents.writer-a.restart: agent 'writer-a': restart='permament': must be one of permanent, "
            "transient, temporary (did you mean 'permanent'?)",
        ),
        ("max_workers=0", "--set max_workers: Orchestrator.Config: max_workers=0: must be a whole number, 1 or more"),
        ("max_workers=four", "--set max_workers: Orchestrator.Config: max_workers='four': must be a valid integer"),
        (
            "agents.writer-a.share=2",
            "--set agents.writer-a.share: Writer.Config: share=2.0: must be less than or equal to 1",
        ),
        (
            "agents.writer-a.mode=fats",
            "--set agents.writer-a.mode: Writer.Config: mode='fats': must be one of slow, fast (did you mean 'fast'?)",
        ),
        (
            "agents.writer-a.depends_on=['x']",
            "--set agents.writer-a.depends_on: agent 'writer-a': depends_on=\"['x']\": must be a list of names",
        ),
        (
            'agents.writer-a.depends_on=["ingst"]',
            "--set agents.writer-a.depends_on: 'writer-a': depends_on='ingst': no such sibling "
            "(did you mean 'ingest'?)",
        ),
        (
            'agents.writer-a.depends_on=["writer-b"]',
            "--set agents.writer-a.depends_on: depends_on: cycle writer-a -> writer-b -> writer-a",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where_it_stands(text: str, said: str) -> None:
    assert refusal(text) == said


def test_a_mistake_in_a_file_is_one_line_with_file_and_key() -> None:
    assert refusal(toml="[agents.wrter-a]\npath = 'x'") == (
        "prod.toml: agents.wrter-a: no such agent 'wrter-a' (did you mean 'writer-a'?)"
    )
    assert refusal(toml="agents = 3") == "prod.toml: agents: names no field; write agents.PATH.FIELD"
    with pytest.raises(SpecError, match=r"^prod\.toml: Expected '='"):
        toml_tables("max_workers", "prod.toml")


def test_a_mistake_in_a_variable_is_one_line_with_its_name() -> None:
    assert refusal(ORCHESTREE_MAX_WORKER="4") == (
        "ORCHESTREE_MAX_WORKER: no field has this variable (did you mean 'ORCHESTREE_MAX_WORKERS'?)"
    )
    assert refusal(ORCHESTREE_MAX_WORKERS="four").startswith("ORCHESTREE_MAX_WORKERS: Orchestrator.Config: ")


def test_one_mistake_among_several_settings_changes_nothing_and_is_the_one_that_is_named() -> None:
    said = refusal("max_workers=4", "agents.writer-a.path=x", "agents.writer-a.shutdown=-1", "agents.writer-b.path=y")
    assert said.startswith("--set agents.writer-a.shutdown: agent 'writer-a': shutdown=-1")


def test_an_executor_that_cannot_run_the_agent_is_refused() -> None:
    made = tree()
    made.register_agent(Other, "other")
    assert refusal("agents.other.executor=thread", made=made).startswith(
        "--set agents.other.executor: agent 'other': executor='thread': Other runs on async or process"
    )
    made.register_agent(Writer, "held", params={"held": (number for number in [1])})
    assert refusal("agents.held.executor=process", made=made).startswith("--set agents.held.executor: ")


def test_a_rule_about_several_children_names_the_settings_that_broke_it() -> None:
    said = refusal("agents.writer-a.significant=true")
    assert said.startswith("--set agents.writer-a.significant: 'writer-a': significant=True: ")


def test_a_tree_that_was_broken_before_is_left_to_its_start() -> None:
    made = tree()
    made.register_agent(Writer, "late", depends_on=["added-by-before-start"])
    apply(given("max_workers=2"), made)
    assert made.config.max_workers == 2


@pytest.mark.parametrize("field", ["token", "db_password"])
def test_secrets_are_never_shown(field: str) -> None:
    key = f"agents.writer-a.{field}"
    made = tree()
    assert effective(made, f"{key}=hunter2")[key].value == "**********"
    assert getattr(config(made), field) in ("hunter2", SecretStr("hunter2"))


def test_the_refusal_of_a_secret_says_the_rule_and_not_the_secret() -> None:
    said = refusal("agents.writer-a.db_password=short")
    field = "--set agents.writer-a.db_password: Writer.Config: db_password=**********"
    assert said == f"{field}: ********** is not long enough"
    said = refusal(toml="[agents.writer-a]\ntoken = 1234")
    assert "token=**********: must be a valid string" in said
    assert "1234" not in said


@pytest.mark.parametrize("secret", ["abc", "raises"])
def test_a_rule_that_may_hold_the_secret_is_not_shown(secret: str) -> None:
    said = refusal(f"agents.writer-a.db_password={secret}")
    assert said == "--set agents.writer-a.db_password: the value breaks a rule of its field (a secret, hence not shown)"


def test_the_token_of_the_metrics_is_a_secret_like_those_of_agents() -> None:
    made = tree()
    found = effective(made, "metrics_host=0.0.0.0", ORCHESTREE_METRICS_TOKEN="hunter2")
    assert (found["metrics_token"].value, found["metrics_token"].source) == ("**********", "ORCHESTREE_METRICS_TOKEN")
    assert made.config.metrics_token == SecretStr("hunter2")
    said = refusal("metrics_token=hunter 2")
    rule = "must be one or more ASCII characters without spaces"
    assert said == f"--set metrics_token: Orchestrator.Config: metrics_token=...: {rule}"
    assert refusal("metrics_host=0.0.0.0").startswith("--set metrics_host: Orchestrator.Config: metrics_host='0.0.0.0'")


def test_the_repr_of_what_was_set_does_not_show_it() -> None:
    held = given(
        "agents.writer-a.token=hunter2", toml='[agents.writer-a]\ntoken = "hunter2"', ORCHESTREE_NAME="hunter2"
    )
    assert "hunter2" not in repr(held)
    assert "agents.writer-a.token" in repr(held)


def test_effective_values_say_where_each_comes_from() -> None:
    made = tree(max_restarts=3)
    apply(given(), made)
    found = effective(made, "max_workers=4", ORCHESTREE_AGENTS__WRITER_A__SIZE="3")
    sources = {one.key: (one.value, one.source) for one in found.values() if one.source != "default"}
    assert sources == {
        "run_mode": ("daemon", "code"),
        "max_restarts": (3, "code"),
        "max_workers": (4, "--set"),
        "control": (False, "code"),
        "agents.writer-a.path": ("a.txt", "code"),
        "agents.writer-a.size": (3, "ORCHESTREE_AGENTS__WRITER_A__SIZE"),
        "agents.writer-b.depends_on": (["writer-a"], "code"),
        "supervisors.ingest.max_restarts": (3, "code"),
    }


def test_effective_values_hold_what_reconfigure_has_changed_and_every_default() -> None:
    made = tree()
    made.reconfigure("", max_restarts=7)
    found = effective(made)
    assert found["max_restarts"] == EffectiveValue("max_restarts", 7, "code")
    assert found["agents.writer-a.folder"] == EffectiveValue("agents.writer-a.folder", "/tmp", "default")
    assert found["agents.writer-a.executor"].source == "default"
    assert found["agents.writer-a.backoff"] == EffectiveValue("agents.writer-a.backoff", "inherit", "default")
    assert found["backoff"] == EffectiveValue("backoff", "Backoff()", "default")


def test_sets_are_shown_in_order() -> None:
    found = effective(tree(control_permissions=frozenset({"tree", "logs", "ps"})))
    assert found["control_permissions"].value == ["logs", "ps", "tree"]


def test_what_is_shown_can_be_set_by_its_key() -> None:
    made = tree()
    shown = effective(made)
    texts = [
        f"{one.key}={as_text(one.value)}"
        for one in shown.values()
        if one.value != "**********" and "Backoff" not in str(one.value)
    ]
    assert effective(made, *texts).keys() == shown.keys()
    assert effective(made) == shown


def test_an_option_needs_a_key_and_an_equals_sign() -> None:
    assert option("max_workers") is None
    assert option("=4") is None
    assert option("history=a=b") == Setting("history", "a=b", "--set")
