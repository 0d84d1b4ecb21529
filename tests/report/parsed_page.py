"""A page as a reader's program sees it: tables by title, charts, links, ids and scripts."""

import json
from html.parser import HTMLParser
from typing import Any

Attributes = dict[str, str | None]


class ParsedPage(HTMLParser):
    """tables: title → rows of cells, the header first. charts: id of the place → plotly's data and layout.

    scripts: the source of those that run. tags: name and attributes of every element.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.charts: dict[str, dict[str, Any]] = {}
        self.scripts: list[str] = []
        self.viewer: dict[str, Any] = {}
        self.texts: list[str] = []
        self._open: list[tuple[str, Attributes]] = []
        self._title = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in ("meta", "link", "input"):
            self._open.append((tag, attributes))
        if tag in ("figcaption", "summary"):
            self._title = ""
        elif tag == "table" and self._title:
            self.tables[self._title] = []
        elif tag == "tr" and self._title in self.tables:
            self.tables[self._title].append([])
        elif tag in ("td", "th") and self._title in self.tables:
            self.tables[self._title][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag == "table":
            self._title = ""

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self._script(attributes, data)
        elif tag in ("figcaption", "summary"):
            self._title += data
        elif tag in ("td", "th") and self._title in self.tables:
            self.tables[self._title][-1][-1] += data
        elif tag != "style":
            self.texts.append(data)

    def _script(self, attributes: Attributes, data: str) -> None:
        if attributes.get("type") == "application/jsonl":
            self.viewer["utterances"] = [json.loads(line) for line in data.splitlines() if line]
        elif attributes.get("type") != "application/json":
            self.scripts.append(data)
        elif attributes.get("data-chart"):
            self.charts[str(attributes["data-chart"])] = json.loads(data)
        else:
            self.viewer |= json.loads(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]
