"""Recipe files: YAML in layers, by `extends` and `--set`, into one validated Recipe.

An unknown key, a wrong type or a value out of range is a UserError that names the file, the key and, for a
misspelt key, the nearest valid one.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from asr_kd.errors import UserError
from asr_kd.recipe import Network, Recipe


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read `path`, the recipes it extends and the `key.path=value` overrides into one validated Recipe."""
    data = read_layers(path)
    if {"base", "cells", "grid"} & set(data):
        raise UserError(f"{path}: an experiment over recipes; run: asr-kd experiment {path}")
    for override in overrides or []:
        _apply_override(data, override)
    data.setdefault("name", path.stem)
    try:
        whole = _inherit_networks(_merge(Recipe().model_dump(), _expand_environment(data, path)))
        recipe = Recipe.model_validate(whole)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None
    if "specialists" in recipe.decode.systems and recipe.specialists is None:
        raise UserError(f"{path}: decode.systems: names specialists, but there is no section specialists; add one")
    if recipe.decode.lattice and recipe.decode.lattice.rescore and recipe.lang.tokens:
        raise UserError(f"{path}: decode.lattice.rescore: not over pieces of words; set it, or lang.tokens, to null")
    if recipe.hmm.external and (problem := needs_gmm(recipe)):
        raise UserError(f"{path}: {problem}, which hmm.external takes the place of; change one of them")
    return recipe


def needs_gmm(recipe: Recipe) -> str:
    """What in the recipe reads the GMMs that stage 3 trains, as `key: why`; empty if nothing does."""
    hmm, teachers = recipe.hmm, recipe.teachers
    networks = {"teachers.network": teachers.network, "student.network": recipe.student_network}
    networks |= {f"teachers.networks.{number}": network for number, network in enumerate(teachers.networks or ())}
    gmms = [system for system in recipe.decode.systems if system.startswith("gmm-")]
    if hmm.external and hmm.external.tree and gmms:
        return f"decode.systems: {gmms[0]} decodes with GMMs"
    if hmm.realignment:
        return "hmm.realignment: starts from the alignment of GMMs"
    if recipe.features.speed:
        return "features.speed: the copies are aligned by GMMs"
    adapted = [key for key, network in networks.items() if "fmllr" in network.input]
    return f"{adapted[0]}.input: adapts to speakers by GMMs" if adapted else ""


def read_layers(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file's mapping over that of the file it `extends`; UserError says what is wrong with the file."""
    if path.resolve() in seen:
        raise UserError(f"{path}: 'extends' comes back to this file; break the circle")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name an existing recipe") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the recipe as UTF-8") from None
    except (ValueError, RecursionError) as error:  # of values such as 2026-13-01, and of a path that is none
        raise UserError(f"{path}: not valid YAML ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, this is a {type(data).__name__}")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends: must be the name of one recipe file")
    inherited = read_layers(path.parent / parent, (*seen, path.resolve()))
    inherited.pop("name", None)  # or a child without a name would write into its parent's experiment
    return _merge(inherited, data)


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _inherit_networks(data: dict[str, Any]) -> dict[str, Any]:
    """The recipe with the keys that student.network, or one of teachers.networks, leaves out as in teachers.network.

    What is no mapping stays as it is, for validation to name it.
    """
    teachers, student = data["teachers"], data["student"]
    if not (isinstance(teachers, dict) and isinstance(teachers["network"], dict)):
        return data
    common = {key: value for key, value in teachers["network"].items() if key in Network.model_fields}

    def complete(network: Any) -> Any:
        return {**common, **network} if isinstance(network, dict) else network

    if isinstance(teachers["networks"], list):
        teachers = {**teachers, "networks": [complete(network) for network in teachers["networks"]]}
    if isinstance(student, dict):
        student = {**student, "network": complete(student["network"])}
    return {**data, "teachers": teachers, "student": student}


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: write it as key.path=value, for example teachers.members=3")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: of values such as 2026-13-01
        raise UserError(f"--set {override}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    for parent in parents:
        below = data.setdefault(parent, {})
        if below is None:
            below = data[parent] = {}
        if not isinstance(below, dict):
            raise UserError(f"--set {override}: {parent} is a value, not a section")
        data = below
    data[last] = value


def _expand_environment(value: Any, path: Path) -> Any:
    """Replace ${NAME} in strings by the environment variable's value; a variable that is not set is a UserError."""
    if isinstance(value, dict):
        return {key: _expand_environment(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_environment(item, path) for item in value]
    if not isinstance(value, str):
        return value

    def expand(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UserError(f"{path}: ${{{match[1]}}} is not set; run: export {match[1]}=<directory>")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", expand, value)


def explain(error: ValidationError, model: type[BaseModel] = Recipe) -> str:
    """The first problem in one line: its key in `model`, what is wrong; the nearest valid key for a misspelt one."""
    first, others = error.errors()[0], error.error_count() - 1
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(first["loc"][:-1], model)
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}"
        text = f"{key}: unknown key; {hint}"
    else:
        got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
        text = f"{key}: {first['msg'].removeprefix('Value error, ')}{got}"
    return text + (f" (and {others} more problem{'s' if others > 1 else ''})" if others else "")


def _valid_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Of the section at `location`, whose parts may also number the sections of a list."""
    section = model
    for part in location:
        if str(part) in section.model_fields:
            section = _section_in(section.model_fields[str(part)].annotation) or section
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this type holds, alone, or null, or in a list."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
