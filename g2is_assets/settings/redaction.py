"""Addresses without their credentials, for everything that is stored or shown.

Settings may hold `s3://key:secret@bucket/x.parquet` or `https://host/x.parquet?token=...`. Only the code that opens the
address sees it whole; manifests, tables, errors and logs say `***` for user, password, query and fragment.
"""

import re
from typing import Final

HIDDEN: Final = "***"
SHORTEST: Final = 3
"""Characters from which a user, password or value is looked for by itself: a shorter one is in every text."""
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_CREDENTIAL: Final = re.compile(r"secret|token|passw|credential|sas|(^|_)key(_|$)", re.IGNORECASE)
_PORT: Final = re.compile(r"[^:@]*:[0-9]+")


def redacted(address: str) -> str:
    """The address with `***` for what may be secret; a path stays as it is.

    A password may hold unescaped `/` and `@`, so from a user name or password on, all up to the last `@` is hidden.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    shown, ending = _without_query(rest)
    authority = shown.split("/")[0]
    if "@" in authority or (":" in authority and "@" in shown and not _PORT.fullmatch(authority)):
        shown = f"{HIDDEN}@{shown.rpartition('@')[2]}"
    return f"{scheme}://{shown}" + (f"{ending[0]}{HIDDEN}" if ending else "")


def scrubbed(text: str, address: str = "") -> str:
    """A text, such as another library's error, in which all addresses are redacted.

    Args:
        text: What is to be shown.
        address: One whose secret parts are hidden also where they stand alone.
    """
    if "://" in address:
        text = text.replace(address, redacted(address))
        shown, ending = _without_query(address.partition("://")[2])
        user = shown.rpartition("@")[0] if redacted(address).partition("://")[2].startswith(HIDDEN) else ""
        values = [part.partition("=")[2] for part in re.split(r"[&#]", ending)]
        for secret in (ending[1:], user, user.partition(":")[2], *values):
            text = text.replace(secret, HIDDEN) if len(secret) >= SHORTEST else text
    return _ADDRESS.sub(lambda found: redacted(found[0]), text)


def without_credentials(options: dict[str, str]) -> dict[str, str]:
    """Options of addresses as they are.

    Raises:
        ValueError: One is a credential: settings files are read by many, and kept in the audit trail.
    """
    for name in options:
        if _CREDENTIAL.search(name):
            raise ValueError(f"`{name}` is a credential; take it out and set the variable {name.upper()} instead")
    return options


def path_of(address: str) -> str:
    """A path, or an address without query and fragment: what the file's name and ending are taken from."""
    return _without_query(address)[0] if "://" in address else address


def _without_query(rest: str) -> tuple[str, str]:
    """What stands before the first `?` or `#`, and from there on."""
    cut = re.search(r"[?#]", rest)
    return (rest[: cut.start()], rest[cut.start() :]) if cut else (rest, "")
