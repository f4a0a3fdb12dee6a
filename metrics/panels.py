"""How the panels of the dashboard look. Needs the Grafana Foundation SDK; only `dashboard.py` imports it.

Each function makes one kind of panel out of what differs from panel to panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as look, dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATA_SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The one that a variable of the dashboard names; none is built in."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, in PromQL.

    Attributes:
        legend: name of each series, its labels in double braces.
        step: the least time between two values over time, as Prometheus writes it; None: as fine as can be seen.
    """

    expr: str
    legend: str = ""
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """What every panel has around its data.

    Attributes:
        width: in columns of Grafana's grid, which has 24.
        height: in rows of it.
        unit: as Grafana calls it.
    """

    title: str
    description: str
    width: int
    height: int = 8
    unit: str = "short"


@dataclass(frozen=True, slots=True)
class Limits:
    """Values from which on something is shown in orange and in red; None: never."""

    orange: float | None = None
    red: float | None = None

    def thresholds(self) -> dashboard.ThresholdsConfig:
        """Return them as the SDK has them; what is below is green."""
        above = [(self.orange, "orange"), (self.red, "red")]
        steps = [model.Threshold(value, color) for value, color in above if value is not None]
        ladder = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
        return ladder.steps([model.Threshold(None, "green"), *steps])


class _AnyPanel(Protocol):
    """What the SDK's builders of all kinds of panels have in common, without saying so."""

    def title(self, title: str, /) -> Self: ...
    def description(self, description: str, /) -> Self: ...
    def span(self, w: int, /) -> Self: ...
    def height(self, h: int, /) -> Self: ...
    def unit(self, unit: str, /) -> Self: ...
    def datasource(self, datasource: model.DataSourceRef, /) -> Self: ...
    def targets(self, targets: list[Builder[Dataquery]], /) -> Self: ...


_Kind = TypeVar("_Kind", bound=_AnyPanel)


def _framed(kind: _Kind, frame: Frame, *targets: Builder[Dataquery]) -> _Kind:
    kind.title(frame.title).description(frame.description).span(frame.width).height(frame.height).unit(frame.unit)
    return kind.datasource(DATA_SOURCE).targets(list(targets))


def _over_time(queries: tuple[Query, ...]) -> list[Builder[Dataquery]]:
    return [_range(query).ref_id(ref) for ref, query in zip("ABCD", queries, strict=False)]


def _range(query: Query) -> prometheus.Dataquery:
    drawn = prometheus.Dataquery().range().expr(query.expr).legend_format(query.legend)
    return drawn if query.step is None else drawn.interval(query.step)


def _now(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().instant().expr(query.expr).legend_format(query.legend).ref_id("A")


def number(frame: Frame, expr: str, limits: Limits) -> stat.Panel:
    """Make one large number, as of now."""
    panel = _framed(stat.Panel(), frame, _now(Query(expr)))
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel.reduce_options(last).thresholds(limits.thresholds()).graph_mode(look.BigValueGraphMode.NONE)
    return panel.color_mode(look.BigValueColorMode.VALUE).no_value("0")


def lines(frame: Frame, *queries: Query, limits: Limits | None = None) -> timeseries.Panel:
    """Make lines over time, at most four queries; `limits` are drawn as dashed lines."""
    panel = _framed(timeseries.Panel(), frame, *_over_time(queries)).min(0)
    if limits is not None:
        dashed = common.GraphThresholdsStyleConfig().mode(look.GraphTresholdsStyleMode.DASHED)
        panel.thresholds(limits.thresholds()).thresholds_style(dashed)
    return _with_legend(panel).fill_opacity(10).show_points(look.VisibilityMode.NEVER)


def stack(frame: Frame, *queries: Query, bars: bool = False, colors: dict[str, str] | None = None) -> timeseries.Panel:
    """Make areas, or bars, on top of each other over time; `colors` by the name of the series."""
    panel = _framed(timeseries.Panel(), frame, *_over_time(queries)).min(0)
    panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL)).line_width(1)
    panel.draw_style(look.GraphDrawStyle.BARS if bars else look.GraphDrawStyle.LINE).fill_opacity(80 if bars else 40)
    for name, color in (colors or {}).items():
        panel.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return _with_legend(panel).show_points(look.VisibilityMode.NEVER)


def _with_legend(panel: timeseries.Panel) -> timeseries.Panel:
    below = common.VizLegendOptions().show_legend(True).display_mode(look.LegendDisplayMode.LIST)
    panel.legend(below.placement(look.LegendPlacement.BOTTOM).calcs([]))
    return panel.tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))


def ranking(frame: Frame, query: Query, limits: Limits) -> bargauge.Panel:
    """Make one bar for each series, as of now."""
    panel = _framed(bargauge.Panel(), frame, _now(query)).min(0).thresholds(limits.thresholds())
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.orientation(look.VizOrientation.HORIZONTAL).display_mode(look.BarGaugeDisplayMode.GRADIENT)


def rows(frame: Frame, expr: str, columns: dict[str, str]) -> table.Panel:
    """Make a table of the series that are above 0 now; `columns` says which labels are shown, and under which head."""
    panel = _framed(table.Panel(), frame, _now(Query(expr)).format(PromQueryFormat.TABLE))
    above_0 = {"fieldName": "Value", "config": {"id": "greater", "options": {"value": 0}}}
    panel.with_transformation(
        model.DataTransformerConfig("filterByValue", options={"type": "include", "match": "all", "filters": [above_0]})
    )
    # Prometheus' own columns: the time of the query, and the 1 by which the series was chosen.
    organize = {
        "excludeByName": {"Time": True, "Value": True},
        "indexByName": {label: place for place, label in enumerate(columns)},
        "renameByName": columns,
    }
    return panel.with_transformation(model.DataTransformerConfig("organize", options=organize))


def histogram(frame: Frame, query: Query) -> heatmap.Panel:
    """Make the buckets of a histogram over time, each as dark as what fell into it. The query keeps the label `le`."""
    panel = _framed(heatmap.Panel(), frame, _range(query).ref_id("A").format(PromQueryFormat.HEATMAP))
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(frame.unit))
    return panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
