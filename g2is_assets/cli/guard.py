"""The guard of `g2is ui`: an ASGI application before Dagster's, so that no other site in the browser can use it.

Dagster's server answers to any Host, and takes mutations by GET, without a content type and from any origin. Here a
request must name a host that is served, and whatever can change something must be JSON that this very site sent.
"""

import re
import sys
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from g2is_assets.contracts.audit import PAGE, PAGE_ADDRESS
from g2is_assets.settings.project import load_project

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL: Final = ("localhost", "127.0.0.1", "::1")
EVERYWHERE: Final = ("0.0.0.0", "::")
"""Addresses to listen on that are nobody's name."""
MAKES_APP: Final = "create_app_from_workspace_process_context"
"""What Dagster's command calls for the application that it serves; without it, it does not start here."""
REPORT: Final = re.compile(PAGE_ADDRESS + r"/(?P<domain>\w+)/(?P<version>[0-9a-f-]+)", re.ASCII)
POLICY_VIOLATION: Final = 1008
"""Code of a websocket that is closed for what it asked."""


def hosts_served(host: str, port: int, others: Collection[str] = ()) -> frozenset[str]:
    """Values that the header Host may have: this machine's names and the address's own with the port, and the others.

    One of `others` is served at the port that it names, else at this port and at none, as a proxy's name is.
    """
    own = {f"[{name}]" if ":" in name else name for name in (*LOCAL, host) if name not in EVERYWHERE}
    named = {name.lower() for name in others}
    bare = {name for name in named if not name.rpartition(":")[2].isdigit() or name.endswith("]")}
    at_port = {f"{name}:{port}" for name in own | bare}
    return frozenset({name.lower() for name in at_port | named} | (own if port == 80 else set()))


class Guard:
    """Passes on to an application what a person of this site asks for, and refuses the rest with a reason."""

    def __init__(self, app: App, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        why = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self.app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": why[:100]})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"Refused: {why}\n".encode()})

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is not passed on; None if it is."""
        said: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            said.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip().lower())
        host, origin, site = (_only(said, name) for name in ("host", "origin", "sec-fetch-site"))
        if host not in self.hosts:
            return f"this server is {', '.join(sorted(self.hosts))}; start it with --allow-host for another name"
        own = origin in (f"http://{host}", f"https://{host}")
        if origin is not None and not own:
            return "another site asks"
        if scope["type"] == "websocket":
            return None if own else "a websocket must say its Origin"
        if scope["method"] in ("GET", "HEAD"):
            return _looking(scope, said, site)
        if scope["method"] != "POST":
            return "GET and POST are all that is served"
        if (_only(said, "content-type") or "").partition(";")[0].strip() != "application/json":
            return "what is posted must be JSON, with the header Content-Type: application/json"
        return None if site in (None, "same-origin", "none") else "another site asks"


def _looking(scope: Scope, said: dict[str, list[str]], site: str | None) -> str | None:
    if site not in (None, "same-origin", "none"):  # a link to a page may stand anywhere, and opens it in a tab
        link = (_only(said, "sec-fetch-mode"), _only(said, "sec-fetch-dest")) == ("navigate", "document")
        if not link:
            return "another site asks"
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, separator="&")
    if scope["path"].rstrip("/").endswith("/graphql") and "query" in query:
        return "GraphQL is asked by POST, in JSON"
    return None


def _only(said: dict[str, list[str]], name: str) -> str | None:
    """A header's value; of one that is sent twice, what no rule accepts."""
    values = said.get(name)
    return values[0] if values and len(values) == 1 else ", ".join(values) if values else None


def _unframed(send: Send) -> Send:
    """Answers that no other site can show in a frame, where its visitors would click without knowing on what."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-frame-options", b"SAMEORIGIN")]
        await send(message)

    return sent


class Reports:
    """Serves the pages of `audit/report` beside an application, since no browser opens a file from a site.

    Each is served as of no origin: whoever can write to the lake could put a script into one, and must not thereby
    reach the UI.
    """

    HEADERS: Final = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", b"sandbox allow-scripts allow-popups"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache"),
    )

    def __init__(self, app: App, place: Path) -> None:
        self.app, self.place = app, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass it on."""
        found = REPORT.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
        if found is None:
            return await self.app(scope, receive, send)
        try:
            status, page = 200, (self.place / found["domain"] / found["version"] / PAGE).read_bytes()
        except OSError:
            status, page = 404, b"There is no such report; refresh the domain.\n"
        await send({"type": "http.response.start", "status": status, "headers": list(self.HEADERS)})
        return await send({"type": "http.response.body", "body": page})


def serve() -> None:
    """Dagster's own command, its application behind the guard: the first argument names the hosts, the rest are its."""
    from dagster_webserver import cli

    hosts, make = frozenset(sys.argv.pop(1).split(",")), vars(cli)[MAKES_APP]

    def guarded(*arguments: Any, **options: Any) -> App:
        return Guard(Reports(make(*arguments, **options), load_project().home / "lake" / "audit" / "report"), hosts)

    vars(cli)[MAKES_APP] = guarded
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    serve()
