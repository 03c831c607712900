"""A hub of data sets on this machine, as far as its protocol is asked for: revisions, trees, files, tokens."""

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class Hub:
    """What the server has, and what it was asked.

    Attributes:
        endpoint: Its address.
        commits: Files by name, by data set and commit; the last commit is the branch `main`.
        private: Data sets for which the token is needed.
        gated: Data sets that are closed to the token too.
        asked: Method and path of every request.
    """

    endpoint: str
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    token = "hf_s3cr3t"

    def commit(self, name: str, files: dict[str, str | bytes]) -> str:
        """Add a commit with exactly these files, and say which it is."""
        content = {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}
        commits = self.commits.setdefault(name, {})
        number = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[number] = {".gitattributes": b""} | content
        return number

    def revision(self, name: str, revision: str) -> str | None:
        """The commit of a branch or commit."""
        commits = self.commits[name]
        return list(commits)[-1] if revision == "main" else revision if revision in commits else None


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        found = re.fullmatch(r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path)
        name, what, revision, file = found.groups() if found else ("", None, None, None)
        allowed = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if name not in self.hub.commits or (name in self.hub.private and not allowed):
            return self.refuse(401, "RepoNotFound")
        if name in self.hub.gated:
            return self.refuse(403, "GatedRepo")
        commit = self.hub.revision(name, revision or "main")
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = self.hub.commits[name][commit]
        if what == "resolve":
            return self.send(files[file], commit) if file in files else self.refuse(404, "EntryNotFound")
        oids = {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}
        tree = [{"type": "file", "path": p, "size": len(files[p]), "oid": oid} for p, oid in oids.items()]
        siblings = [{"rfilename": path} for path in files]
        said = tree if what == "tree" else {"id": name, "sha": commit, "siblings": siblings, "private": False}
        return self.send(json.dumps(said).encode(), commit)

    def send(self, content: bytes, commit: str) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving_hub(cache: Path) -> Iterator[Hub]:
    """A hub that this process asks from now on, with a cache of its own; other processes do by `environment`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        patch.delenv("HF_TOKEN", raising=False)
        yield hub
    server.shutdown()
    server.server_close()
