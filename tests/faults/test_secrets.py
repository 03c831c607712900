"""Credentials in a source's address reach only the server."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from g2is_assets.errors import SettingsError
from g2is_assets.settings.config import Settings
from g2is_assets.settings.parsing import parse
from g2is_assets.settings.redaction import redacted, scrubbed
from g2is_assets.store.lake import Lake
from support.processes import Commands
from support.rows import arithmetic_row

ADDRESSES = {
    "s3://bucket/pool/*.parquet": "s3://bucket/pool/*.parquet",
    "s3://user:secret@bucket/x.parquet": "s3://***@bucket/x.parquet",
    "s3://secret@bucket/x.parquet": "s3://***@bucket/x.parquet",
    "s3://user:se/cr@et@bucket/x.parquet": "s3://***@bucket/x.parquet",
    "https://host/x.parquet?token=secret": "https://host/x.parquet?***",
    "https://user:secret@host:8080/x.parquet?token=secret#secret": "https://***@host:8080/x.parquet?***",
    "https://host:8080/at@v1/x.jsonl": "https://host:8080/at@v1/x.jsonl",
    "hf://datasets/who/what@main/x.parquet": "hf://datasets/who/what@main/x.parquet",
    "pool/?odd@name#1.jsonl": "pool/?odd@name#1.jsonl",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_shown_without_what_may_be_secret(address: str) -> None:
    assert redacted(address) == ADDRESSES[address]
    said = scrubbed(f"cannot open '{address}': no such object {address.partition('://')[2]}", address)
    assert ("secret" in said, "cr@et" in said) == (False, False)


def test_a_settings_error_hides_credentials() -> None:
    values = {"instructions": {"sources": [{"path": ["s3://user:secret@bucket/x.parquet"]}]}}
    with pytest.raises(SettingsError) as refused:
        parse(Settings, values, Path("g2is.toml"))
    assert "secret" not in str(refused.value)
    assert "sources" in str(refused.value)


class Rows(http.server.BaseHTTPRequestHandler):
    """Serves rows by range, to those who know the token."""

    content = b""
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def answer(self, with_content: bool) -> None:
        self.asked.append(self.path)
        if not self.path.endswith("token=t0ken"):
            self.send_error(403)
            return
        part, found = self.content, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.send_response(206 if found else 200)
        if found:
            first, last = int(found[1]), min(int(found[2]), len(self.content) - 1)
            part = self.content[first : last + 1]
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if with_content:
            self.wfile.write(part)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Host and port of a server of rows."""
    rows = [arithmetic_row(n) for n in range(500, 520)] + [{"prompt": "Nothing?", "response": ""}]
    for row in rows:
        row.pop("source", None)
    Rows.content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rows)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def stored(folder: Path) -> dict[str, bytes]:
    """All files below, tables as text, since Parquet is compressed."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            table = file.suffix == ".parquet" and file.name != "vectors.parquet"
            found[str(file)] = pl.read_parquet(file).write_ndjson().encode() if table else file.read_bytes()
    return found


def test_credentials_are_in_no_file_no_error_and_no_log(fresh: Path, commands: Commands, server: str) -> None:
    address = f"http://us3r:s3cr3t@{server}/rows.jsonl?token=t0ken"
    fresh.write_text(fresh.read_text().replace('"pool/*.jsonl"', f'"pool/*.jsonl", "{address}"'))
    shown = commands.refresh(fresh)
    version = Lake(fresh.parent / "lake").current("instructions/pool")
    shown_address = f"http://***@{server}/rows.jsonl?***"
    rejected = pl.read_parquet(version.folder / "rejected.parquet")
    assert rejected["file"].to_list() == [shown_address]
    assert f"file:{shown_address}" in version.manifest.inputs
    assert "rows" in pl.read_parquet(version.folder / "pool.parquet")["sources"].explode().unique()

    fresh.write_text(fresh.read_text().replace("t0ken", "t0ken-that-is-wr0ng"))
    shown += commands.refused(fresh)
    assert shown_address in shown
    assert "cannot be read as JSONL" in shown
    files = stored(fresh.parent / "lake") | stored(fresh.parent / ".dagster") | {"shown": shown.encode()}
    assert len(files) > 50
    leaks = {name for name, text in files.items() for secret in (b"us3r", b"s3cr3t", b"t0ken") if secret in text}
    assert leaks == set()


def test_a_ui_for_this_machine_alone_is_the_default() -> None:
    help_text = CliRunner().invoke(main, ["ui", "--help"]).output
    assert re.search(r"--host.*default: 127\.0\.0\.1", help_text, flags=re.S)
    assert "no login" in help_text
