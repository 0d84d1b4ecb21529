"""The pages of the manual that the code writes: recipe keys, command line, modules. A hook of mkdocs (mkdocs.yml)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PACKAGE = Path(__file__).resolve().parent.parent / "asr_kd"
KEYS, COMMANDS, MODULES = "reference/keys.md", "reference/commands.md", "reference/modules"
UNIT = re.compile(r"\s*\[([^][]*)\]$")  # at the end of a key's description
NUMBERS = ("integer", "number")
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
Schema = dict[str, Any]


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Put the modules' pages at the end of the navigation."""
    assert config.nav is not None
    config.nav.append({"Modules": [{title: page} for title, page in module_pages()]})
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the written pages to those of the folder."""
    from mkdocs.structure.files import File

    pages = {KEYS: keys_page(), COMMANDS: commands_page()}
    pages |= {page: modules_page(title) for title, page in module_pages()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


# Recipe keys


def keys_page() -> str:
    """A section for each model of asr_kd.recipe, in the order in which the recipe names them.

    Raises ValueError naming the keys that have no description, and those of numbers whose description has no unit.
    """
    from asr_kd.recipe import Recipe

    schema = Recipe.model_json_schema()
    models = {"Recipe": {key: value for key, value in schema.items() if key != "$defs"}} | schema.get("$defs", {})
    for field in (field for model in models.values() for field in model["properties"].values()):
        for name in referred(field):  # a section's own description, where a key repeats it word by word, is left out
            field.setdefault("description", models[name].get("description", ""))
    faults = [fault for name, model in models.items() for fault in faults_of(name, model)]
    if faults:
        raise ValueError(f"asr_kd/recipe.py: {'; '.join(faults)}; write it below the key")
    places = places_of("Recipe", models)
    lines = [
        "# Recipe keys",
        "",
        "Every key with its default, made from `asr_kd/recipe.py`. [Writing a recipe](../recipes.md) says how recipes "
        "are put together. A key whose default is a section lists what differs there from that section's own defaults.",
    ]
    for name in places:
        lines += ["", f"## {name}", "", prose(models[name].get("description", "")), ""]
        if name != "Recipe":
            lines += [f"At {', '.join(f'`{place}`' for place in places[name])}.", ""]
        lines += ["| key | meaning | unit | values | default |", "|---|---|---|---|---|"]
        required = models[name].get("required", [])
        for key, field in models[name]["properties"].items():
            meaning, unit = described(field)
            default = "none: has to be given" if key in required else default_of(field, models)
            lines.append("| " + " | ".join([f"`{key}`", meaning, unit, values_of(field), default]) + " |")
    return "\n".join(lines) + "\n"


def faults_of(name: str, model: Schema) -> Iterator[str]:
    for key, field in model["properties"].items():
        if not field.get("description"):
            yield f"{name}.{key} has no description"
        elif is_number(field) and not described(field)[1]:
            yield f"{name}.{key} has no [unit] at the end of its description"


def places_of(name: str, models: dict[str, Schema], prefix: str = "") -> dict[str, list[str]]:
    """Of a model and those below it, the dotted keys that they are found at, depth first."""
    places: dict[str, list[str]] = {name: [prefix]} if prefix else {name: []}
    for key, field in models[name]["properties"].items():
        for below in referred(field):
            for model, found in places_of(below, models, f"{prefix}.{key}" if prefix else key).items():
                places.setdefault(model, []).extend(found)
    return places


def referred(field: Schema) -> list[str]:
    """Names of the models that a field may hold."""
    options = field.get("anyOf", [field])
    return [
        item["$ref"].split("/")[-1]
        for option in options
        for item in (option, option.get("items", {}))
        if "$ref" in item
    ]


def is_number(field: Schema) -> bool:
    """Whether a field holds numbers, or lists of them."""
    items = [part for option in field.get("anyOf", [field]) for part in (option, option.get("items", {}))]
    items += [part for item in items for part in item.get("prefixItems", [])]
    return any(item.get("type") in NUMBERS for item in items)


def described(field: Schema) -> tuple[str, str]:
    """Meaning and unit."""
    text = " ".join(field["description"].split())
    unit = UNIT.search(text)
    return prose(UNIT.sub("", text)), unit[1] if unit else ""


def values_of(field: Schema) -> str:
    """What a field admits, for a reader."""
    return " or ".join(map(value_of, field.get("anyOf", [field])))


def value_of(option: Schema) -> str:
    if "$ref" in option:
        name = option["$ref"].split("/")[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in option or "const" in option:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in option.get("enum", [option.get("const")]))
    kind = option.get("type", "")
    if kind == "array":
        parts = option.get("prefixItems") or [option["items"]]
        listed = ", ".join(map(value_of, parts)) if "prefixItems" in option else value_of(parts[0])
        return f"{'pair' if len(parts) == 2 else 'list'}: {listed}"
    bounds = " ".join(f"{sign} {option[bound]:g}" for bound, sign in BOUNDS.items() if bound in option)
    names = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true`, `false`",
        "string": "text",
        "null": "`null`",
    }
    return f"{names[kind]} {bounds}".strip()


def default_of(field: Schema, models: dict[str, Schema]) -> str:
    """The default in YAML's words; of a section, what differs from that section's own defaults."""
    names, default = referred(field), field.get("default")
    if names and (isinstance(default, dict) or "default" not in field):
        model = models[names[0]]
        own = {key: value["default"] for key, value in model["properties"].items() if "default" in value}
        own |= dict.fromkeys(model.get("required", []), None)
        default = {key: value for key, value in (default or {}).items() if key in own and value != own[key]}
        return f"`{yaml_of(default)}`" if default else ""
    return f"`{yaml_of(default)}`"


def yaml_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(yaml_of, value)) + "]"
    if isinstance(value, str):
        return value or '""'
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def prose(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# Command line


def commands_page() -> str:
    """What `asr-kd COMMAND --help` prints, of every command."""
    from typer.testing import CliRunner

    from asr_kd.cli import app

    lines = ["# Command line", "", "What `asr-kd COMMAND --help` prints."]
    for words in commands_of(app):
        shown = CliRunner().invoke(app, [*words, "--help"], prog_name="asr-kd", env={"COLUMNS": "90"})
        lines += ["", f"## asr-kd {' '.join(words)}", "", "```text", shown.stdout.strip(), "```"]
    return "\n".join(lines) + "\n"


def commands_of(app: "typer.Typer", before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command, those of groups behind the others."""
    for command in app.registered_commands:
        assert command.callback
        yield (*before, command.name or command.callback.__name__.replace("_", "-"))
    for group in app.registered_groups:
        assert group.typer_instance
        yield from commands_of(group.typer_instance, (*before, str(group.name)))


# Modules


def module_pages() -> list[tuple[str, str]]:
    """Title and page of each room, the package's own modules first."""
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    return [(name, f"{MODULES}/{name}.md") for name in ("asr_kd", *rooms)]


def modules_page(room: str) -> str:
    """mkdocstrings' marks for the modules of a room."""
    folder, prefix = (PACKAGE, "asr_kd") if room == "asr_kd" else (PACKAGE / room, f"asr_kd.{room}")
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    return "\n\n".join([f"# {room}", *(f"::: {prefix}.{module}" for module in modules)]) + "\n"
