"""TOML into frozen settings, and what is wrong with it in one message that names file, key and remedy."""

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Tag, ValidationError

from g2is_assets.errors import SettingsError
from g2is_assets.settings.redaction import scrubbed

S = TypeVar("S", bound=BaseModel)

_EMAIL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z|]{1,6}[A-Za-z]")


def _owner(value: str) -> str:
    # What Dagster takes as an owner, so that no definition fails for one later.
    if not _EMAIL.fullmatch(value) and not (value.startswith("team:") and len(value) > len("team:")):
        raise ValueError("an owner is an email address, or `team:` and the team's name")
    return value


def license_name(said: str) -> str:
    """A licence's name as it is compared: without regard to case, surrounding space and the way accents are encoded."""
    return unicodedata.normalize("NFC", said).strip().lower()


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError):  # a folder of zones, a path, an unknown name
        raise ValueError("not a time zone of the IANA database, such as UTC or Europe/Berlin") from None
    return value


def _whole_from_one(budget: float) -> float:
    if budget >= 1 and budget != int(budget):
        raise ValueError(f"{budget}: from 1 up a budget counts rows and must be whole")
    return budget


Share = Annotated[float, Field(gt=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Budget = Annotated[float, Field(gt=0.0), AfterValidator(_whole_from_one)]
Owner = Annotated[str, AfterValidator(_owner)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


class Section(BaseModel):
    """Settings that cannot be changed after loading and refuse keys that they do not know.

    The text below a key is its meaning in docs/settings.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def read_toml(file: Path) -> dict[str, Any]:
    """The contents of a TOML file.

    Raises:
        SettingsError: It is missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(f"{file} does not exist; name another with --config or G2IS_CONFIG") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}; save it as UTF-8, readable for you") from error
    except (ValueError, RecursionError) as error:  # not TOML, too deep, or a number beyond bounds
        raise SettingsError(f"{file} is not valid TOML: {error}") from error


def to_toml(values: Mapping[str, Any]) -> str:
    """Values as the text of a TOML file that reads back equal, without what is None."""
    import tomlkit

    return tomlkit.dumps(_said(values))


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _said(each) for name, each in value.items() if each is not None}
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value


def parse(kind: type[S], values: dict[str, Any], file: Path, prefix: str = "") -> S:
    """Values as settings of a kind.

    Raises:
        SettingsError: A key is unknown or a value out of bounds; the message lists all of them.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        places = [fault["loc"] for fault in error.errors()]
        for fault in error.errors():
            if any(place != fault["loc"] and place[: len(fault["loc"])] == fault["loc"] for place in places):
                continue  # a list of which pydantic says that it is too short, having left out what it refused
            names, known = _located(kind, fault["loc"])
            where = ".".join(([prefix] if prefix else []) + names)
            if fault["type"] == "extra_forbidden":
                lines.append(f"unknown setting '{where}'{_suggestion(names[-1], known)}")
            else:
                said = fault["msg"].removeprefix("Value error, ")
                given = "" if isinstance(fault["input"], dict) else f" (given: {_shown(fault['input'])})"
                lines.append(f"{where or 'settings'}: {said}{given}")
        raise SettingsError(f"{file}: " + "; ".join(lines)) from None


def _shown(value: Any) -> str:
    try:
        return scrubbed(repr(value))[:80]
    except ValueError:  # an integer of thousands of digits
        return "a number too large to print"


def _located(kind: Any, loc: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Where a fault is, in the words of the file, and the keys that are known there."""
    names, model = [], kind
    for part in loc:
        tagged = {
            tag.tag: get_args(one)[0] for one in get_args(model) for tag in get_args(one)[1:] if isinstance(tag, Tag)
        }
        if part in tagged:  # pydantic names the kind of section that it took
            model = tagged[part]
            continue
        names.append(str(part))
        if isinstance(part, int):  # of a list
            model = next(iter(get_args(model)), None)
            continue
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else model if part == loc[-1] else None
    return names, list(getattr(model, "model_fields", {}))


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(known)}" if known else ""
