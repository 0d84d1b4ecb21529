"""Docstrings as prose: what Markdown takes for its own, outside code, is text. An extension of griffe (mkdocs.yml)."""

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`)")
MARK = re.compile(r"[<*_\[]")
MARKS = {"<": "&lt;", "*": "\\*", "_": "\\_", "[": "\\["}


class Prose(griffe.Extension):
    """Escapes what Markdown or HTML would take for its own, `<eps>` for example, in every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = escaped(obj.docstring.value)


def escaped(text: str) -> str:
    """The text with marks escaped outside of `code` and of lines indented as code."""
    return "\n".join(line if line.startswith("    ") else _escaped_line(line) for line in text.split("\n"))


def _escaped_line(line: str) -> str:
    parts = CODE.split(line)  # prose and code in turn
    parts[::2] = [MARK.sub(lambda mark: MARKS[mark[0]], prose) for prose in parts[::2]]
    return "".join(parts)
