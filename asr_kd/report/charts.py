"""The kinds of charts of the page, as plotly traces; colours and symbols tell systems apart in every one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asr_kd.report.document import SMALL_HEIGHT, Chart, plain

Values = Sequence[float | None]
ROW_HEIGHT, FRAME_HEIGHT = 20, 110  # pixels: of a category, and of what stands around them all
QUIET = "#808893"
# Colours that stand out from white and from black; symbols for those who see no difference between them.
STYLES = {
    "baseline": (QUIET, "circle"),
    "ensemble": ("#d98200", "diamond"),
    "specialists": ("#b5569b", "square"),
    "teacher": ("#d98200", "diamond"),
    "student": ("#2f81d6", "star"),
}
OTHERS = (("#2f9c6a", "triangle-up"), ("#8d6cd1", "triangle-down"), ("#c0504d", "cross"), ("#5f8f9f", "x"))


def style(name: str, number: int = 0) -> tuple[str, str]:
    """Colour and symbol of a system, or of the `number`th of others."""
    return STYLES.get(name, OTHERS[number % len(OTHERS)])


def dots(
    title: str,
    categories: Sequence[str],
    series: Mapping[str, Values],
    axis: str,
    reaches: Mapping[str, tuple[Values, Values]] | None = None,
) -> Chart:
    """One row a category, the first at the top, one dot a series. reaches: distances down and up, as error bars.

    The dots of a single series have the colours of their categories, which are systems then.
    """
    rows = [plain(category) for category in categories]
    traces = []
    for number, (name, values) in enumerate(series.items()):
        colour, symbol = style(name, number)
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": plain(name),
            "x": list(values),
            "y": rows,
            "marker": {"color": colour, "symbol": symbol, "size": 9},
            "hovertemplate": f"%{{y}}, {plain(name)}: %{{x:.2f}}<extra></extra>",
        }
        if len(series) == 1:
            colours, symbols = zip(*map(style, categories, range(len(categories))), strict=True)
            trace["marker"] |= {"color": colours, "symbol": symbols}
        if reaches and name in reaches:
            down, up = reaches[name]
            trace["error_x"] = {"type": "data", "symmetric": False, "array": list(up), "arrayminus": list(down)}
            trace["error_x"] |= {"color": QUIET, "thickness": 1.5}
        traces.append(trace)
    layout = {
        "xaxis": {"title": {"text": axis}},
        "yaxis": {"type": "category", "range": [len(rows) - 0.5, -0.5], "tickmode": "linear", "dtick": 1},
        "showlegend": len(series) > 1,
    }
    return Chart(title, traces, layout, height=FRAME_HEIGHT + ROW_HEIGHT * len(rows))


@dataclass(frozen=True)
class Line:
    """One curve; `legend`: its name in the legend, None where another line stands there for it."""

    name: str
    x: Sequence[float | str]
    y: Values
    colour: str
    legend: str | None
    width: float = 2.5
    dash: str = "solid"
    reach: tuple[Values, Values] | None = None


def curves(title: str, lines: Sequence[Line], x: str, y: str, **axis: Any) -> Chart:
    """Lines, with error bars where they have a `reach`. axis: plotly's settings of the x axis."""
    traces = []
    for line in lines:
        name = plain(line.name)
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers" if line.reach or len(line.x) < 3 else "lines",
            "name": plain(line.legend or line.name),
            "x": list(line.x),
            "y": list(line.y),
            "line": {"color": line.colour, "width": line.width, "dash": line.dash},
            "showlegend": line.legend is not None,
            "hovertemplate": f"{name}, {plain(x)} %{{x}}: %{{y:.3f}}<extra></extra>",
        }
        if line.reach:
            down, up = line.reach
            trace["error_y"] = {"type": "data", "symmetric": False, "array": list(up), "arrayminus": list(down)}
        traces.append(trace)
    return Chart(
        title, traces, {"xaxis": {"title": {"text": plain(x)}, **axis}, "yaxis": {"title": {"text": plain(y)}}}
    )


def bars(title: str, categories: Sequence[str], series: Mapping[str, Values], axis: str) -> Chart:
    """A small chart of grouped bars, for a grid of them; shares of one, categories below."""
    traces = [
        {
            "type": "bar",
            "name": plain(name),
            "x": [plain(category) for category in categories],
            "y": list(values),
            "marker": {"color": style(name, number)[0]},
            "hovertemplate": f"%{{x}}, {plain(name)}: %{{y:.3f}}<extra></extra>",
        }
        for number, (name, values) in enumerate(series.items())
    ]
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": axis}, "rangemode": "tozero"},
        "bargap": 0.25,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
    }
    return Chart(title, traces, layout, height=SMALL_HEIGHT, small=True)


def reliability(title: str, series: Mapping[str, tuple[Values, Values]]) -> Chart:
    """Share of right answers over confidence, (confidence, share) of each system, with the line of perfect ones."""
    perfect = {
        "type": "scatter", "mode": "lines", "name": "perfect", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
        "line": {"color": QUIET, "dash": "dot", "width": 1},
    }  # fmt: skip
    traces: list[dict[str, Any]] = [perfect]
    for name, (confidence, share) in series.items():
        colour, symbol = style(name)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": plain(name),
                "x": list(confidence),
                "y": list(share),
                "line": {"color": colour},
                "marker": {"symbol": symbol, "size": 8},
                "hovertemplate": f"{plain(name)}: sure of %{{x:.3f}}, right %{{y:.3f}}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "mean confidence"}, "range": [0, 1]},
        "yaxis": {"title": {"text": "share of right answers"}, "range": [0, 1]},
    }
    return Chart(title, traces, layout, height=400)


def heat_map(
    title: str,
    x: Sequence[str],
    y: Sequence[str],
    values: Sequence[Values],
    names: tuple[str, str],
    lower_is_better: bool = False,
) -> Chart:
    """values[row of y][column of x], None where there is none; names: of the x and the y axis. Bright is good."""
    trace = {
        "type": "heatmap",
        "x": [plain(label) for label in x],
        "y": [plain(label) for label in y],
        "z": [list(row) for row in values],
        "texttemplate": "%{z:.2f}",
        "colorscale": "Viridis",
        "reversescale": lower_is_better,
        "hoverongaps": False,
        "hovertemplate": f"{plain(names[0])} %{{x}}, {plain(names[1])} %{{y}}: %{{z:.2f}}<extra></extra>",
    }
    axes = [{"title": {"text": plain(name)}, "type": "category"} for name in names]
    return Chart(title, [trace], {"xaxis": axes[0], "yaxis": axes[1]}, height=FRAME_HEIGHT + 48 * len(y))
