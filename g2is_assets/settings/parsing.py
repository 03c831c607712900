"""TOML into frozen settings, and what is wrong with it in one message that names file, key and remedy."""

import difflib
import re
import tomllib
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ValidationError

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


Owner = Annotated[str, AfterValidator(_owner)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


def read_toml(file: Path) -> dict[str, Any]:
    """The contents of a TOML file.

    Raises:
        SettingsError: It is missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file} does not exist; name another with --config or G2IS_CONFIG") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:  # not TOML, too deep, or a number beyond bounds
        raise SettingsError(f"{file} is not valid TOML: {error}") from error


def parse(kind: type[S], values: dict[str, Any], file: Path, prefix: str = "") -> S:
    """Values as settings of a kind.

    Raises:
        SettingsError: A key is unknown or a value out of bounds; the message lists all of them.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            where = ".".join(str(part) for part in ((prefix,) if prefix else ()) + fault["loc"])
            if fault["type"] == "extra_forbidden":
                lines.append(f"unknown setting '{where}'{_suggestion(kind, fault['loc'])}")
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


def _suggestion(kind: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    model: Any = kind
    for part in loc[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = field.annotation if field else None
    known = list(model.model_fields) if hasattr(model, "model_fields") else []
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(known)}" if known else ""
