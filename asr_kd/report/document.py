"""A page as sections of notes, tables and charts, and its rendering into one self-contained HTML file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

Row = tuple[str, ...]
CHART_HEIGHT, SMALL_HEIGHT = 340, 220


@dataclass(frozen=True)
class Note:
    """A paragraph; `warning` sets it off."""

    text: str
    warning: bool = False
    kind = "note"


@dataclass(frozen=True)
class Table:
    """`labels`: how many columns at the left hold text. `folded`: shown on request; `small` ones stand side by side."""

    title: str
    header: Row
    rows: Sequence[Row]
    labels: int = 1
    folded: bool = False
    small: bool = False
    kind = "table"


@dataclass(frozen=True)
class Chart:
    """A plotly figure: `data` its traces, `layout` what differs from the page's; `small` ones stand side by side.

    Plotly reads some markup in labels: pass text from corpora through `plain`. Each chart needs its figures in a table
    too, for who cannot see it or hover over it.
    """

    title: str
    data: Sequence[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = CHART_HEIGHT
    small: bool = False
    kind = "chart"


@dataclass(frozen=True)
class Viewer:
    """The per-utterance viewer: what templates/viewer.js reads. utterances: JSON that is safe in HTML, a line each."""

    data: dict[str, Any]
    utterances: Iterable[str]
    kind = "viewer"


@dataclass(frozen=True)
class Section:
    """`id`: its anchor, and the beginning of its charts' ids."""

    id: str
    title: str
    blocks: Sequence[Note | Table | Chart | Viewer]


def render(title: str, about: Sequence[str], sections: Sequence[Section]) -> Iterator[str]:
    """The HTML page, part by part: everything in one file, all text escaped.

    about: lines under the title.
    """
    blocks = [block for section in sections for block in section.blocks]
    has_viewer = any(isinstance(block, Viewer) for block in blocks)
    environment = Environment(
        loader=PackageLoader("asr_kd.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").generate(
        title=title,
        about=about,
        sections=sections,
        style=asset("page.css"),
        plotly=get_plotlyjs() if any(isinstance(block, Chart) for block in blocks) else "",
        scripts=[asset("page.js"), *([asset("viewer.js")] if has_viewer else [])],
    )


def asset(name: str) -> str:
    return (files("asr_kd.report") / "templates" / name).read_text(encoding="utf-8")


def plain(text: str) -> str:
    """Text that plotly shows as it is."""
    return escape(text, quote=False)
