"""A running UI: what it shows and runs, and the attacks of other sites, which Dagster's own server obeys, refused."""

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import psutil
import pytest

from g2is_assets.cli.guard import Guard, hosts_served
from support.projects import write_instance
from support.shared import copied

PLAIN = [sys.executable, "-c", "from dagster_webserver.cli import main; main()"]
G2IS = [sys.executable, "-c", "from g2is_assets.cli import main; main()"]
EVIL = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
FORGED = (
    'mutation {{ reportRunlessAssetEvents(eventParams: {{assetKey: {{path: ["{key}"]}}, '
    'eventType: ASSET_MATERIALIZATION, description: "forged"}}) {{ __typename }} }}'
)
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "graphql-ws",
}


@dataclass(frozen=True)
class Server:
    """A server that runs, over a history that tests may add to."""

    port: int
    process: subprocess.Popen[bytes]
    home: Path

    def answer(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> int:
        """Status of the answer to a request as a browser sends it; no header is added but Host and the length."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in ({"Host": f"localhost:{self.port}"} | headers).items():
            connection.putheader(name, value.replace("PORT", str(self.port)))
        if body is not None or method == "POST":
            connection.putheader("Content-Length", str(len(body or "")))
        connection.endheaders((body or "").encode())
        status = connection.getresponse().status
        connection.close()
        return status

    def reported(self, key: str) -> bool:
        """Whether the history has a materialisation of that asset."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return bool(instance.fetch_materializations(dg.AssetKey(key), limit=1).records)

    def ask(self, query: str, pick: Callable[[Any], Any]) -> Any:
        """What `pick` takes from the answer, asked again until there is something."""
        content, json_said = json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/graphql", content, json_said)
        deadline = time.monotonic() + 420
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server ended by itself"
            with urllib.request.urlopen(request, timeout=120) as response:
                if found := pick(json.load(response)["data"]):
                    return found
            time.sleep(0.5)
        raise AssertionError(f"no answer within 420 s to {query}")

    def wait(self) -> None:
        for _ in range(240):
            assert self.process.poll() is None, "the server ended by itself"
            try:
                assert self.answer("GET", "/server_info", {}) == 200
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError("the server does not answer")


def free_ports(n: int) -> list[int]:
    """So many ports, all of them held until the last is found: one that was let go may be handed out again."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def start(command: list[str], home: Path, port: int, *arguments: str) -> Server:
    words = [*command, "--port", str(port), *arguments]
    environment = {"DAGSTER_HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path), "HF_HUB_OFFLINE": "1"}
    with home.with_name("ui.log").open("w") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, env=environment, start_new_session=True)
    return Server(port, process, home)


@pytest.fixture(scope="module")
def servers(refreshed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Dagster's own server, and `g2is ui` of a project in which the graph is to be made again."""
    folder = tmp_path_factory.mktemp("guard")
    (folder / "plain").mkdir()
    write_instance(folder / "plain")
    settings = copied(refreshed, folder / "guarded")
    (settings.parent / "lake" / "graph" / "neighbors" / "current.json").unlink()
    one, other = free_ports(2)
    own = ("--host", "0.0.0.0", "--config", str(settings))
    started = {
        "plain": start(PLAIN, folder / "plain" / ".dagster", one, "--empty-workspace"),
        "guarded": start([*G2IS, "ui"], settings.parent / ".dagster", other, *own),
    }
    try:
        for server in started.values():
            server.wait()
        yield started
    finally:
        for server in started.values():
            server.process.terminate()
        for server in started.values():
            server.process.wait(timeout=60)


def by_url(key: str) -> str:
    return f"/graphql?query={quote(FORGED.format(key=key))}"


def in_json(key: str) -> str:
    return json.dumps({"query": FORGED.format(key=key)})


ATTACKS: dict[str, Any] = {
    "an_image": lambda key: ("GET", by_url(key), {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}),
    "an_image_in_an_old_browser": lambda key: ("GET", by_url(key), {}),
    "a_link": lambda key: (
        "GET",
        by_url(key),
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ),
    "a_text": lambda key: ("POST", by_url(key), EVIL | {"Content-Type": "text/plain"}, "x"),
    "a_form": lambda key: ("POST", by_url(key), EVIL | {"Content-Type": "application/x-www-form-urlencoded"}, "a=b"),
    "a_form_of_parts": lambda key: ("POST", by_url(key), EVIL | {"Content-Type": "multipart/form-data; boundary=x"}),
    "a_text_that_says_json": lambda key: (
        "POST",
        "/graphql",
        EVIL | {"Content-Type": "text/plain; x=application/json"},
        in_json(key),
    ),
    "a_text_of_nobody": lambda key: ("POST", by_url(key), {"Content-Type": "text/plain"}, "x"),
    "graphql_itself": lambda key: (
        "POST",
        "/graphql",
        EVIL | {"Content-Type": "application/graphql"},
        FORGED.format(key=key),
    ),
    "json": lambda key: ("POST", "/graphql", EVIL | {"Content-Type": "application/json"}, in_json(key)),
    "json_of_a_sandbox": lambda key: (
        "POST",
        "/graphql",
        {"Origin": "null", "Content-Type": "application/json"},
        in_json(key),
    ),
    "json_of_a_neighbour": lambda key: (
        "POST",
        "/graphql",
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site", "Content-Type": "application/json"},
        in_json(key),
    ),
    "a_name_that_was_rebound": lambda key: (
        "POST",
        "/graphql",
        {
            "Host": "evil.example:PORT",
            "Origin": "http://evil.example:PORT",
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/json",
        },
        in_json(key),
    ),
    "a_report": lambda key: ("POST", f"/report_asset_materialization/{key}?description=forged", EVIL),
    "a_report_of_nobody": lambda key: ("POST", f"/report_asset_materialization/{key}", {}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_dagster_obeys_is_refused(attack: str, servers: dict[str, Server]) -> None:
    request = ATTACKS[attack](attack)
    assert servers["plain"].answer(*request) == 200
    assert servers["plain"].reported(attack)
    assert servers["guarded"].answer(*request) == 403
    assert not servers["guarded"].reported(attack)


def test_a_websocket_is_opened_for_this_site_alone(servers: dict[str, Server]) -> None:
    for origin, plain, guarded in (
        ({"Origin": "http://evil.example"}, 101, 403),
        ({}, 101, 403),
        ({"Origin": "http://localhost:PORT"}, 101, 101),
        ({"Origin": "http://evil.example:PORT", "Host": "evil.example:PORT"}, 101, 403),
    ):
        said = [servers[name].answer("GET", "/graphql", UPGRADE | origin) for name in ("plain", "guarded")]
        assert said == [plain, guarded], origin


def test_the_site_itself_and_programs_are_served(servers: dict[str, Server]) -> None:
    own = {"Origin": "http://localhost:PORT", "Sec-Fetch-Site": "same-origin"}
    for n, headers in enumerate((own, {}, {"Host": "127.0.0.1:PORT"}, {"Host": "[::1]:PORT"})):
        said = headers | {"Content-Type": "application/json; charset=utf-8"}
        assert servers["guarded"].answer("POST", "/graphql", said, in_json(f"own{n}")) == 200
        assert servers["guarded"].reported(f"own{n}")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert servers["guarded"].answer("GET", "/assets", link) == 200
    assert servers["guarded"].answer("GET", "/assets", link | {"Sec-Fetch-Dest": "iframe"}) == 403
    assert servers["guarded"].answer("DELETE", "/assets", {}) == 403


def refusal(headers: list[tuple[str, str]], hosts: frozenset[str], method: str = "POST") -> str | None:
    named = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": "/graphql", "query_string": b"", "headers": named}

    async def nobody(*_: Any) -> None:
        raise AssertionError

    return Guard(nobody, hosts).refusal(scope)


def test_what_is_said_twice_is_believed_neither_time() -> None:
    json_said, hosts = ("Content-Type", "application/json"), hosts_served("127.0.0.1", 3000)
    assert refusal([("Host", "localhost:3000"), json_said], hosts) is None
    assert refusal([("Host", "localhost:3000"), ("Host", "localhost:3000"), json_said], hosts)
    assert refusal([("Host", "localhost:3000"), json_said, ("Content-Type", "text/plain")], hosts)
    assert refusal([json_said], hosts)


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("box.lan:3000", True),
        ("BOX.lan:3000", True),
        ("g2is.example.org", True),
        ("g2is.example.org:3000", True),
        ("other.org:8443", True),
        ("other.org", False),
        ("localhost:3000", True),
        ("localhost", False),
        ("0.0.0.0:3000", False),
        ("box.lan.evil.example:3000", False),
    ],
)
def test_the_hosts_that_were_named_are_served(host: str, served: bool) -> None:
    json_said = ("Content-Type", "application/json")
    hosts = hosts_served("box.lan", 3000, ["g2is.example.org", "other.org:8443"])
    assert (refusal([("Host", host), json_said], hosts) is None) == served
    assert hosts_served("0.0.0.0", 3000) == hosts_served("::", 3000) == hosts_served("localhost", 3000)


def test_no_other_site_can_show_an_answer_in_a_frame() -> None:
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"a:1")]}
    asyncio.run(Guard(app, {"a:1"})(scope, None, keep))  # type: ignore[arg-type]
    assert (b"x-frame-options", b"SAMEORIGIN") in sent[0]["headers"]


LAUNCH = """
mutation { launchRun(executionParams: {
  selector: {
    repositoryLocationName: "g2is_assets.orchestration.definitions",
    repositoryName: "__repository__", jobName: "refresh_pool"
  },
  mode: "default", runConfigData: {loggers: {console: {config: {log_level: "ERROR"}}}}
}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


def test_the_ui_shows_the_assets_runs_a_job_and_ends_its_processes(servers: dict[str, Server]) -> None:
    """The last test here: then it serves no more."""
    ui = servers["guarded"]
    nodes = ui.ask("{ assetNodes { assetKey { path } } }", lambda data: data["assetNodes"])
    keys = {"/".join(node["assetKey"]["path"]) for node in nodes}
    assert "selection/subset" in keys
    assert len(keys) == 14
    run = ui.ask(LAUNCH, lambda data: data["launchRun"])
    assert run["__typename"] == "LaunchRunSuccess", run
    status = f'{{ runOrError(runId: "{run["run"]["runId"]}") {{ ... on Run {{ status }} }} }}'
    finished = {"SUCCESS", "FAILURE", "CANCELED"}
    assert ui.ask(status, lambda data: {data["runOrError"]["status"]} & finished) == {"SUCCESS"}
    assert (ui.home.parent / "lake" / "graph" / "neighbors" / "current.json").exists()
    assert listens_everywhere(ui.port)
    ui.process.send_signal(signal.SIGINT)
    ui.process.wait(timeout=60)
    said = ui.home.with_name("ui.log").read_text()
    assert "Warning: serving on 0.0.0.0. Dagster's UI has no login: anyone who reaches it can launch runs" in said
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", ui.port)) != 0


def listens_everywhere(port: int) -> bool:
    """Whether somebody listens on all of this machine's addresses."""
    return any(c.laddr == ("0.0.0.0", port) for c in psutil.net_connections("tcp4") if c.status == psutil.CONN_LISTEN)
