"""The template with its escaping, the page's own style and script, and the policy that allows no others."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER: Final = Path(__file__).parent
_UNSAFE: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""Characters of JSON, all of them within strings, that could end a script element or a line of script."""


def render(context: Mapping[str, Any], points: Mapping[str, Any]) -> str:
    """The page.

    Args:
        context: What the template names.
        points: Data of the map, for the script.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    page = environment.get_template("report.html.j2").render(
        **context, style=Markup(style), script=Markup(script), points=as_json(points), policy=policy(style, script)
    )
    return page if page.endswith("\n") else page + "\n"


def as_json(value: Mapping[str, Any]) -> Markup:
    """JSON for a script element that is data: no text in it can be taken for markup."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_UNSAFE))


def policy(style: str, script: str) -> str:
    """A content security policy under which this style and this script work, pictures within the page, and no more."""
    own = {"style-src": style, "script-src": script}
    digests = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in own.items()}
    allowed = "; ".join(f"{name} 'sha256-{digest}'" for name, digest in digests.items())
    return f"default-src 'none'; {allowed}; img-src data:; base-uri 'none'; form-action 'none'"
