"""Build the dashboard for Grafana: ``python -m orchestree.metrics.dashboard`` writes ``shipped/dashboard.json``.

For who changes the dashboard; the runtime never loads it. Needs the Grafana Foundation SDK of the extra `dev`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from .panels import DATA_SOURCE, Frame, Limits, Query, histogram, lines, number, ranking, rows, stack

FILE: Final = Path(__file__).parent / "shipped" / "dashboard.json"

# What the variables of the dashboard choose. The variable `supervisor` means all below it, therefore its value is the
# beginning of a path; for "All" it is .*, which also fits the root, whose path is empty.
ORCHESTRATORS: Final = 'instance=~"$instance"'
SUPERVISORS: Final = f'{ORCHESTRATORS}, supervisor=~"${{supervisor}}(/.+)?"'
AGENTS: Final = f'{ORCHESTRATORS}, agent=~"${{supervisor}}(/.+)?", agent=~"$agent"'

FAILURES: Final = 'cause!~"normal|ignore|shutdown"'
SINCE: Final = "$__rate_interval"

STEP: Final = "5m"
"""Between two values that count what happened since the one before. With steps that are long beside the time between
two scrapes, `SINCE` reaches from one to the next: what happened once is drawn once, and nothing is left out."""

STATE_COLORS: Final = {
    "ready": "green",
    "completed": "blue",
    "stopped": "super-light-blue",
    "registered": "light-blue",
    "waiting": "light-yellow",
    "queued": "yellow",
    "starting": "light-green",
    "stopping": "purple",
    "backoff": "orange",
    "failed": "dark-orange",
    "parked": "red",
    "wedged": "dark-red",
}

AnyPanel = Builder[model.Panel]


def now() -> Iterator[AnyPanel]:
    """Yield the figures at the top: how it stands, and what happened within the time that is shown."""
    bad = Limits(red=1)

    def figure(title: str, description: str, expr: str, limits: Limits) -> AnyPanel:
        return number(Frame(title, description, 3, 4), expr, limits)

    yield figure(
        "Orchestrators", "That Prometheus reaches.", f"count(orchestree_build_info{{{ORCHESTRATORS}}})", Limits()
    )
    yield figure("Ready", "Agents that work.", f'sum(orchestree_agents{{{ORCHESTRATORS}, state="ready"}})', Limits())
    yield figure(
        "On their way",
        "Agents that start, or that start by themselves as soon as they may: they wait for others, for a worker or for "
        "their restart.",
        f'sum(orchestree_agents{{{ORCHESTRATORS}, state=~"waiting|queued|starting|backoff"}})',
        Limits(),
    )
    yield figure(
        "Parked",
        "Agents that were given up on. They stay down until somebody starts them.",
        f"sum(orchestree_parked{{{ORCHESTRATORS}}})",
        bad,
    )
    yield figure(
        "Wedged",
        "Threads and tasks that were told to end and do not, also those whose agent went on without them.",
        f"sum(orchestree_wedged_threads{{{ORCHESTRATORS}}})",
        bad,
    )
    yield figure(
        "Restarts",
        "Within the time that is shown, of the chosen agents: after failures, with their group, and by command.",
        f"round(sum(increase(orchestree_agent_restarts_total{{{AGENTS}}}[$__range])))",
        Limits(),
    )
    yield figure(
        "Failures",
        "Within the time that is shown, of the chosen agents.",
        f"round(sum(increase(orchestree_agent_ends_total{{{AGENTS}, {FAILURES}}}[$__range])))",
        Limits(orange=1),
    )
    yield figure(
        "Supervisors down",
        "Those that gave up and stay down until somebody starts them, with all below them.",
        f'sum(orchestree_supervisor_state{{{SUPERVISORS}, state=~"failed|parked"}})',
        bad,
    )


def agents() -> Iterator[AnyPanel]:
    """Yield who is in which state, and who fails."""
    yield stack(
        Frame("States", "Agents in each state, of whole orchestrators.", 8),
        Query(f"sum by (state) (orchestree_agents{{{ORCHESTRATORS}}})", "{{state}}"),
        colors=STATE_COLORS,
    )
    yield stack(
        Frame("Ends by cause", "Why the runs of the chosen agents ended; most ends are followed by a restart.", 8),
        Query(f"sum by (cause) (increase(orchestree_agent_ends_total{{{AGENTS}}}[{SINCE}]))", "{{cause}}", STEP),
        bars=True,
    )
    yield stack(
        Frame(
            "Crashes",
            "Of whole orchestrators, also of agents that live too short to be seen one by one, such as the jobs of a "
            "dynamic supervisor.",
            8,
        ),
        Query(
            f'sum by (instance) (increase(orchestree_events_total{{{ORCHESTRATORS}, type="agent_crashed"}}[{SINCE}]))',
            "{{instance}}",
            STEP,
        ),
        bars=True,
    )
    yield ranking(
        Frame("Top flappers", "Most restarts within the time that is shown.", 8),
        Query(
            f"topk(10, round(sum by (instance, agent) "
            f"(increase(orchestree_agent_restarts_total{{{AGENTS}}}[$__range]))) > 0)",
            "{{agent}} ({{instance}})",
        ),
        Limits(orange=3, red=10),
    )
    yield lines(
        Frame(
            "Failures in a row",
            "The streak that backoff goes by: it grows with each failure, and a stable run sets it to 0.",
            8,
        ),
        Query(f"topk(10, orchestree_agent_restart_streak{{{AGENTS}}} > 0)", "{{agent}} ({{instance}})"),
    )
    trouble = 'state=~"parked|wedged|failed|backoff"'
    yield rows(
        Frame(
            "In trouble",
            "Agents, and supervisors (with a slash before their path), that are parked, wedged or failed, or wait for "
            "their restart; at most 50.",
            8,
        ),
        f"topk(50, max by (agent, state, instance) (orchestree_agent_state{{{AGENTS}, {trouble}}} or label_replace("
        f'orchestree_supervisor_state{{{SUPERVISORS}, {trouble}}}, "agent", "/$1", "supervisor", "(.*)")))',
        {"agent": "Path", "state": "State", "instance": "Instance"},
    )


def restarts() -> Iterator[AnyPanel]:
    """Yield how near supervisors are to giving up, and how long agents are away."""
    buckets = f"orchestree_supervisor_restart_duration_seconds_bucket{{{SUPERVISORS}}}"
    yield lines(
        Frame(
            "Window used",
            "Restarts that count now, as a part of those that the supervisor bears within its window. One more than "
            "all ends it.",
            12,
            unit="percentunit",
        ),
        Query(
            f"max_over_time(orchestree_supervisor_restarts_in_window{{{SUPERVISORS}}}[{SINCE}])"
            f" / (orchestree_supervisor_restarts_limit{{{SUPERVISORS}}} > 0)",
            "/{{supervisor}} ({{instance}})",
        ),
        limits=Limits(orange=0.5, red=0.8),
    )
    yield lines(
        Frame("Supervisors", "How often they gave up, and were restarted.", 12),
        *(
            Query(f"increase(orchestree_supervisor_{total}_total{{{SUPERVISORS}}}[{SINCE}]) > 0", legend, STEP)
            for total, legend in (
                ("terminations", "/{{supervisor}} gave up ({{instance}})"),
                ("restarts", "/{{supervisor}} restarted ({{instance}})"),
            )
        ),
    )
    yield lines(
        Frame(
            "Restart duration",
            "Of restarts of agents directly below: from the end of a run until the agent is ready again, delay "
            "included.",
            12,
            unit="s",
        ),
        *quantiles(buckets),
    )
    yield histogram(
        Frame("Restart durations", "How many restarts took how long.", 12, unit="s"),
        Query(f"sum by (le) (increase({buckets}[{SINCE}]))", "{{le}}", STEP),
    )


def quantiles(buckets: str) -> list[Query]:
    """Return the queries for what half, 95 and 99 of 100 observations stay below."""
    return [
        Query(f"histogram_quantile({share}, sum by (le) (rate({buckets}[{SINCE}])))", name)
        for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
    ]


def resources() -> Iterator[AnyPanel]:
    """Yield what agents use, and who is silent."""
    yield lines(
        Frame("CPU by agent", "Of the 20 process agents that use most; 100 % is one processor.", 8, unit="percentunit"),
        Query(f"topk(20, rate(orchestree_agent_cpu_seconds_total{{{AGENTS}}}[{SINCE}]))", "{{agent}} ({{instance}})"),
    )
    yield lines(
        Frame("Memory by agent", "Resident, of the 20 process agents that use most.", 8, unit="bytes"),
        Query(f"topk(20, orchestree_agent_memory_bytes{{{AGENTS}}})", "{{agent}} ({{instance}})"),
    )
    yield lines(
        Frame(
            "Silence",
            "Seconds since the last progress, of the 10 that are silent for longest. Progress is the end of setup, "
            "heartbeat(), progress(), and the beginning of a round. A periodic agent that waits for its next round is "
            "not silent; any other wait is silence, also sleep() in the execute() of a plain agent.",
            8,
            unit="s",
        ),
        Query(f"topk(10, orchestree_agent_heartbeat_age_seconds{{{AGENTS}}})", "{{agent}} ({{instance}})"),
    )


def workers() -> Iterator[AnyPanel]:
    """Yield who waits for a worker, and how many there are."""
    yield lines(
        Frame("Queue", "Agents that are due and wait for a worker.", 12),
        Query(f"orchestree_queue_length{{{ORCHESTRATORS}}}", "{{instance}}"),
    )
    yield lines(
        Frame("Workers", "Agents that hold a worker, and how many may. Without max_workers there is no limit.", 12),
        Query(
            f"sum by (instance) "
            f'(orchestree_agents{{{ORCHESTRATORS}, state=~"starting|ready|stopping|backoff|wedged"}})',
            "held ({{instance}})",
        ),
        Query(f"orchestree_workers_limit{{{ORCHESTRATORS}}} < +Inf", "limit ({{instance}})"),
    )


def orchestrator() -> Iterator[AnyPanel]:
    """Yield how the orchestrators themselves do."""
    yield stack(
        Frame("Events by type", "Per second; log records are none.", 12, unit="ops"),
        Query(f"sum by (type) (rate(orchestree_events_total{{{ORCHESTRATORS}}}[{SINCE}]))", "{{type}}"),
    )
    yield lines(
        Frame(
            "Loop lag",
            "From what wakes supervision up until its turn. Milliseconds are the interpreter's other threads; more is "
            "C code that keeps the interpreter to itself, or a machine without time to spare.",
            12,
            unit="s",
        ),
        *quantiles(f"orchestree_loop_lag_seconds_bucket{{{ORCHESTRATORS}}}"),
    )
    yield lines(
        Frame(
            "History lag",
            "For how long the oldest event that is not in the history file has been waiting.",
            12,
            unit="s",
        ),
        Query(f"orchestree_history_lag_seconds{{{ORCHESTRATORS}}}", "{{instance}}"),
    )
    yield lines(
        Frame("Losses", "Events that did not reach a reader, and handlers and hooks that raised.", 12),
        Query(f"increase(orchestree_events_dropped_total{{{ORCHESTRATORS}}}[{SINCE}])", "dropped ({{instance}})", STEP),
        Query(
            f"increase(orchestree_event_handler_errors_total{{{ORCHESTRATORS}}}[{SINCE}])",
            "handlers failed ({{instance}})",
            STEP,
        ),
    )


def chosen(name: str, label: str, query: str, description: str) -> dashboard.QueryVariable:
    """Make a variable of which one chooses several values, or all."""
    every = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = dashboard.QueryVariable(name).label(label).description(description).query(query).datasource(DATA_SOURCE)
    variable.multi(True).include_all(True).all_value(".*").current(every)
    return variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)


def variables() -> list[Builder[model.VariableModel]]:
    """Return what can be chosen at the top; each choice narrows those after it."""
    below = 'agent=~"${supervisor}(/.+)?"'
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        chosen("instance", "Instance", "label_values(orchestree_build_info, instance)", "Orchestrators."),
        chosen(
            "supervisor",
            "Supervisor",
            f"label_values(orchestree_supervisor_restarts_limit{{{ORCHESTRATORS}}}, supervisor)",
            "Supervisors, each with all below it. All: the whole tree, the root too, which has no name.",
        ),
        chosen(
            "agent",
            "Agent",
            f"label_values(orchestree_agent_info{{{ORCHESTRATORS}, {below}}}, agent)",
            "Agents below the chosen supervisors.",
        ),
    ]


class TitledAnnotation(model.AnnotationQuery):
    """An annotation with the texts that Grafana takes from Prometheus' labels, which the SDK does not know."""

    title: str = ""
    text: str = ""

    def to_json(self) -> dict[str, object]:
        """Return what Grafana reads."""
        return super().to_json() | {"titleFormat": self.title, "textFormat": self.text, "tagKeys": "instance"}


@dataclass(frozen=True, slots=True)
class Mark(Builder[model.AnnotationQuery]):
    """What is marked in all graphs, at the moments at which `expr` is more than 0."""

    name: str
    color: str
    expr: str
    title: str
    text: str

    def build(self) -> model.AnnotationQuery:
        """Return it as the SDK has it."""
        mark = TitledAnnotation(name=self.name, datasource=DATA_SOURCE, icon_color=self.color, expr=self.expr)
        mark.title, mark.text = self.title, self.text
        return mark


def marks() -> list[Builder[model.AnnotationQuery]]:
    """Return what is marked: crashes, and supervisors that gave up."""
    failures = f"increase(orchestree_agent_ends_total{{{AGENTS}, {FAILURES}}}[{SINCE}])"
    ends = f"increase(orchestree_supervisor_terminations_total{{{SUPERVISORS}}}[{SINCE}])"
    return [
        Mark("Crashes", "orange", f"{failures} > 0", "{{agent}} failed", "{{cause}}, on {{instance}}"),
        Mark("Supervisors gave up", "red", f"{ends} > 0", "/{{supervisor}} gave up", "on {{instance}}"),
    ]


def build() -> str:
    """Return the dashboard as JSON text."""
    board = dashboard.Dashboard("Orchestree").uid("orchestree-overview").tags(["orchestree"])
    board.description("Supervision trees: who is up, who fails, how near supervisors are to giving up, and why.")
    board.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    board.variables(variables()).annotations(marks())
    parts = {
        "Now": now(),
        "Agents": agents(),
        "Restarts": restarts(),
        "Resources": resources(),
        "Workers": workers(),
        "Orchestrators": orchestrator(),
    }
    for title, panels in parts.items():
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    whole = board.build()
    for place, placed in enumerate(whole.panels or [], start=1):
        placed.id_val = place
    return json.dumps(whole, cls=JSONEncoder, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
