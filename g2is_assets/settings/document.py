"""Every key of settings files as Markdown: its values, default and meaning, as the settings classes have them."""

import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from g2is_assets.settings.parsing import Section

_BOUNDS: Final = {
    "exclusiveMinimum": "above",
    "minimum": "from",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}
_WORDS: Final = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}


def document(files: Iterable[tuple[str, type[Section]]]) -> str:
    """A chapter for each file, by its name and class, with a table for each of its sections."""
    return "\n\n".join(part for name, kind in files for part in (f"## `{name}`", *_parts(kind, ""))) + "\n"


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
