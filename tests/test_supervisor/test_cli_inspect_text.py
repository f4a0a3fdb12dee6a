"""What `inspect` makes of an answer of the API."""

from __future__ import annotations

from typing import Any

from orchestree.supervisor.control.command_line.inspect_command import sections

SENSOR: dict[str, Any] = {
    "path": "ingest/sensor",
    "name": "sensor",
    "kind": "agent",
    "state": "backoff",
    "executor": "process",
    "pid": None,
    "incarnation": 3,
    "restarts_total": 2,
    "streak": 2,
    "uptime_s": None,
    "next_restart_s": 0.41,
    "depends_on": ["site", "host"],
    "waiting_for": [],
    "queued": False,
    "cpu_percent": None,
    "memory_bytes": None,
    "agent": "app:Sensor",
    "policy": {"restart": "transient", "shutdown": 5.0, "watchdog": None},
    "config": {"interval": 0.5, "token": "**********", "place": "a\x1bb"},
    "params": ["place"],
    "result": None,
    "children": None,
    "last_crash": {
        "cause": "exception",
        "message": "ValueError: \x1b[2J",
        "phase": "execute",
        "exception_types": ["builtins.ValueError", "builtins.Exception"],
        "traceback": "Traceback\n  File x, line 1\x07\nValueError: \x1b[2J",
        "exit_code": None,
        "uptime_s": 2.01,
        "notes": [],
        "output": ["last words\x1b[0m"],
        "max_memory": 33_135_002,
        "delay_s": 0.25,
    },
}


def test_every_section_is_there_and_nothing_steers_a_terminal() -> None:
    assert list(sections(SENSOR)) == [
        "ingest/sensor",
        "  kind             agent",
        "  agent            app:Sensor",
        "  state            backoff",
        "  executor         process",
        "  restarts in      0.4s",
        "  incarnation      3",
        "  restarts         2",
        "  streak           2",
        "  depends on       site, host",
        "POLICY",
        "  restart          transient",
        "  shutdown         5.0",
        "  watchdog         null",
        "CONFIG",
        "  interval         0.5",
        "  token            **********",
        "  place            a\\x1bb",
        "PARAMS",
        "  place",
        "LAST CRASH",
        "  cause            exception",
        "  message          ValueError: \\x1b[2J",
        "  phase            execute",
        '  exception_types  ["builtins.ValueError", "builtins.Exception"]',
        "  uptime_s         2.0s",
        "  max_memory       31.6 MiB",
        "  delay_s          0.2s",
        "  traceback",
        "    Traceback",
        "      File x, line 1\\x07",
        "    ValueError: \\x1b[2J",
        "  output",
        "    last words\\x1b[0m",
    ]


def test_a_supervisor_has_children_and_the_root_is_a_slash() -> None:
    root = SENSOR | {"path": "", "kind": "supervisor", "executor": None, "agent": None, "config": None, "params": []}
    lines = list(sections(root | {"children": ["ingest", "site"], "last_crash": None, "uptime_s": 192.4}))
    assert lines[0] == "/"
    assert lines[-3:] == ["CHILDREN", "  ingest", "  site"]
    assert "  uptime           3m 12s" in lines
    assert not [line for line in lines if line.startswith(("  agent", "CONFIG", "PARAMS", "LAST CRASH"))]
