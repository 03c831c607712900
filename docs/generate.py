"""Writes docs/settings.md from the settings classes, and the list of files in docs/architecture.md: run it as it is."""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from g2is_assets.settings.config import Settings
from g2is_assets.settings.parsing import Section
from g2is_assets.settings.project import DomainFile
from g2is_assets.stages.studies import StudyFile

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "g2is_assets"
HEAD = """# Settings

Every key of a project's files. Unknown keys and values out of bounds are refused when the files load. What the paper
sets stands in [data/g2is.toml](../data/g2is.toml) beside the demo's values; whole files as published are
[data/presets/paper.toml](../data/presets/paper.toml) and, of LESS, [data/presets/less.toml](../data/presets/less.toml).
This page is generated from the settings classes: `python docs/generate.py`.
"""
FILES = (("g2is.toml", Settings), ("domains/<name>/domain.toml", DomainFile), ("studies/<name>.toml", StudyFile))
LIST = "## Every file\n"
OTHERS = {
    "dagster.yaml": "Dagster's instance settings, as a project gets them at first.",
    "model_card.md.j2": "The model card, as a template.",
    "charts.html.j2": "The charts of the report, as templates.",
    "report.css": "The report's style.",
    "report.html.j2": "The report's template.",
    "report.js": "What the report can do without a network.",
}

_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "from",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}


def settings() -> str:
    """docs/settings.md: a chapter for each file, with a table for each of its sections."""
    chapters = (part for name, kind in FILES for part in (f"## `{name}`", *_parts(kind, "")))
    return f"{HEAD}\n" + "\n\n".join(chapters) + "\n"


def architecture() -> str:
    """docs/architecture.md with the list of files as it is now; the text before it is written by hand."""
    said = (HERE / "architecture.md").read_text(encoding="utf-8").partition(LIST)[0]
    return f"{said}{LIST}\nEach with the first sentence of its own text (`python docs/generate.py`).\n{files()}"


def files() -> str:
    """Every file of the package by folder, each with what it is."""
    lines = []
    for folder in sorted({file.parent for file in PACKAGE.rglob("*.py")}):
        here = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix in {".py", ".yaml", ".css", ".j2", ".js"})
        lines += ["", f"**{folder.relative_to(PACKAGE.parent).as_posix()}/**: {sentence(folder / '__init__.py')}", ""]
        lines += [f"- `{file.name}`: {sentence(file)}" for file in here if file.name != "__init__.py"]
    return "\n".join(lines) + "\n"


def sentence(file: Path) -> str:
    """The first paragraph of a module's docstring."""
    if file.suffix != ".py":
        return OTHERS[file.name]
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def _parts(kind: type[Section], path: str) -> Iterator[str]:
    """What a section is, the table of its keys, and the same of the sections in it."""
    yield " ".join(inspect.getdoc(kind).split())  # type: ignore[union-attr]
    schemas = kind.model_json_schema()["properties"]
    below = {name: _below(field, f"{path}{name}") for name, field in kind.model_fields.items()}
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        if not below[name] or get_origin(field.annotation) in (tuple, dict):
            meaning = " ".join((field.description or "").split())
            cells = (_code(name), _value(schemas[name]), _default(field), meaning)
            rows.append("".join("| " + cell.replace("|", r"\|") + " " for cell in cells) + "|")
    yield "\n".join(rows)
    for title, inner, section in (found for several in below.values() for found in several):
        yield f"### {title}"
        yield from _parts(section, f"{inner}.")


def _below(field: FieldInfo, path: str) -> list[tuple[str, str, type[Section]]]:
    """The sections that a key opens, with titles and paths; those of a union are told apart by their first key."""
    sections = list(_sections(field.annotation))
    path += ".<name>" if get_origin(field.annotation) is dict else ""
    title = f"[[{path}]]" if get_origin(field.annotation) is tuple else f"[{path}]"
    if len(sections) < 2:
        return [(_code(title), path, section) for section in sections]
    tags = [next(iter(section.model_fields.items())) for section in sections]
    return [
        (f"{_code(title)} with `{key} = {json.dumps(tag.default)}`", path, section)
        for (key, tag), section in zip(tags, sections, strict=True)
    ]


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _value(schema: dict[str, Any]) -> str:
    """What a key takes, in words, from its JSON schema."""
    match schema:
        case {"const": value}:
            return _code(json.dumps(value))
        case {"enum": values}:
            return "one of " + ", ".join(_code(json.dumps(value)) for value in values)
        case {"anyOf": [value, {"type": "null"}]}:
            return _value(value)
        case {"pattern": pattern}:
            return f"text like {_code(pattern)}"
        case {"type": "array", "items": items}:
            least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
            return f"list{least}, each {_value(items)}"
        case {"type": name} if name in _WORDS:
            bounds = (f" {words} {schema[key]:.10g}" for key, words in _BOUNDS.items() if key in schema)
            return _WORDS[name] + ",".join(bounds)
    return "table"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = to_jsonable_python(field.get_default(call_default_factory=True))
    return "none" if default is None else _code(json.dumps(default))


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    (HERE / "settings.md").write_text(settings(), encoding="utf-8")
    (HERE / "architecture.md").write_text(architecture(), encoding="utf-8")
