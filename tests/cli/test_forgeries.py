"""Forgeries by whoever may write the lake and nothing else, and what is said where nobody else tells a digest."""

import http.server
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.audit import ROWS
from g2is_assets.contracts.finetune import SCORES
from g2is_assets.hashing import file_sha256
from g2is_assets.store.manifest import Input, Manifest, data_version, describe_files, input_digest
from g2is_assets.store.version import Version
from support.commands import g2is
from support.projects import flip, lake_of
from support.runs import refresh

DOMAIN = "sums"
DOCUMENT = Path(__file__).parents[2] / "docs" / "auditors.md"


def forged(file: Path, asset: str, **changes: object) -> Version:
    """What is current of an asset with a manifest made anew: whole in itself, of the files that now lie there."""
    version = lake_of(file).current(asset, DOMAIN)
    old = version.manifest.model_copy(update=changes | {"files": describe_files(version.folder)})
    same = (old.asset, old.partition, old.code_version, old.settings, old.inputs)
    digests = {"data_version": data_version(old.files, old.parts), "input_digest": input_digest(*same)}
    new = Manifest.model_validate(old.model_copy(update=digests).model_dump())
    (version.folder / "manifest.json").write_text(new.model_dump_json())
    return Version(version.folder, new)


def linked(settings: Path, asset: str, behind: Version) -> Version:
    """The same of an asset that names another version among its inputs and, a lineage, in its settings."""
    manifest = lake_of(settings).current(asset, DOMAIN).manifest
    said = Input(
        data_version=behind.manifest.data_version, manifest_sha256=file_sha256(behind.folder / "manifest.json")
    )
    told = dict(manifest.settings)
    if "manifests" in told:
        told["manifests"] = told["manifests"] | {behind.manifest.asset: said.manifest_sha256}
    inputs = manifest.inputs | {behind.manifest.asset: said}
    return forged(settings, asset, inputs=inputs, settings=told)


def scores(settings: Path) -> str:
    table = lake_of(settings).current("finetune/evaluation", DOMAIN)
    file = table.folder / SCORES.file
    pl.read_parquet(file).with_columns(nll=pl.lit(0.1234)).write_parquet(file)
    evaluation = forged(settings, "finetune/evaluation", metrics=table.manifest.metrics | {"nll_g2is": 0.1234})
    lineage = linked(settings, "audit/lineage", evaluation)
    linked(settings, "audit/report", evaluation)
    linked(settings, "audit/report", lineage)
    return str(lake_of(settings).current("finetune/evaluation", DOMAIN).folder / "manifest.json")


def page(settings: Path) -> str:
    file = lake_of(settings).current("audit/report", DOMAIN).folder / "report.html"
    file.write_text(file.read_text().replace("worse than", "better than"))
    forged(settings, "audit/report")
    return str(lake_of(settings).current("audit/report", DOMAIN).folder / "manifest.json")


def licences(settings: Path) -> str:
    file = lake_of(settings).current("audit/lineage", DOMAIN).folder / ROWS.file
    pl.read_parquet(file).with_columns(licenses=pl.lit(["CC0-1.0"], pl.List(pl.String))).write_parquet(file)
    linked(settings, "audit/report", forged(settings, "audit/lineage"))
    return str(lake_of(settings).current("audit/lineage", DOMAIN).folder / "manifest.json")


def another_served(settings: Path) -> str:
    adapter = lake_of(settings).current("finetune/adapter", DOMAIN).folder
    other = adapter.with_name(f"{adapter.name[:-12]}{'0' * 12}")
    shutil.copytree(adapter, other)
    text = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(text.replace('"run_id": "', '"run_id": "0'))
    (adapter.parent / "served.json").write_text(json.dumps({"version": other.name}))
    return f"finetune/adapter/{DOMAIN}/served.json"


def none_served(settings: Path) -> str:
    (lake_of(settings).place("finetune/adapter", DOMAIN) / "served.json").unlink()
    return f"finetune/adapter/{DOMAIN}/served.json"


def no_pool(settings: Path) -> str:
    (lake_of(settings).place("graph/neighbors") / "current.json").unlink()
    return "graph/neighbors/current.json"


FORGERIES = (scores, page, licences, another_served, none_served, no_pool)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_what_is_whole_in_itself_differs_from_what_dagster_was_told(copy: Path, forge: Callable[[Path], str]) -> None:
    where = forge(copy)
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 1, result.output
    assert f"{where}: it" in result.output
    assert "Dagster's last event says" in result.output
    refused = g2is(copy, "audit", "witness", str(copy.parent / "witness.jsonl"))
    assert refused.exit_code == 1
    assert "nothing was recorded" in refused.stderr
    assert not (copy.parent / "witness.jsonl").exists()


def test_a_domain_that_was_renamed_is_looked_at_with_the_rest(copy: Path) -> None:
    (copy.parent / "domains" / DOMAIN).rename(copy.parent / "domains" / "adds")
    lake = lake_of(copy)
    flip(lake.current("finetune/evaluation", DOMAIN).folder / SCORES.file)
    shutil.rmtree(lake.place("knowledge/components", DOMAIN))
    (lake.place("finetune/adapter", DOMAIN) / "current.json").unlink()  # so that it is no adapter in use
    lake.place("finetune/adapter", "other").mkdir()
    (lake.place("finetune/adapter", "other") / "current.json").write_text("{")
    result = g2is(copy, "audit", "verify")
    assert result.exit_code == 1
    assert "everything else: BROKEN" in result.output
    assert f"{SCORES.file}: its digest is" in result.output
    assert f"unverified: {lake.place('knowledge/components', DOMAIN)}/current.json: it is gone" in result.output


def test_what_is_served_is_looked_at_and_going_back_is_seen(copy: Path) -> None:
    lake = lake_of(copy)
    served, result = (lake.current(asset, DOMAIN).folder for asset in ("finetune/adapter", "finetune/evaluation"))
    said = 'title = "Sums"\npromote = "if_better"\n[finetune]\nseed = 1\nlearning_rate = 1e-9\n'
    (copy.parent / "domains" / DOMAIN / "domain.toml").write_text(said)
    file = copy.parent / "witness.jsonl"
    assert "digests recorded" in g2is(copy, "audit", "witness", str(file)).stdout
    refresh(copy, DOMAIN)
    assert lake.current("finetune/adapter", DOMAIN).folder != served
    assert json.loads((served.parent / "served.json").read_text())["version"] == served.name
    whole = g2is(copy, "audit", "verify")
    assert whole.exit_code == 0, whole.output
    newer = g2is(copy, "audit", "verify", DOMAIN, "--witness", str(file))
    assert newer.exit_code == 3  # made since
    assert "finetune/evaluation[sums]" in newer.output
    assert "digests recorded" in g2is(copy, "audit", "witness", str(file)).stdout
    assert g2is(copy, "audit", "verify", "--witness", str(file)).exit_code == 0
    weights = served / "adapter" / "adapter_model.safetensors"
    flip(weights)
    broken = g2is(copy, "audit", "verify", DOMAIN)
    assert broken.exit_code == 1
    assert f"altered: {weights}" in broken.output
    flip(weights)
    (result.parent / "current.json").write_text(json.dumps({"version": result.name}))
    for more, what in (((), "Dagster's last event says"), (("--witness", str(file)), ": it was rolled back\n")):
        back = g2is(copy, "audit", "verify", DOMAIN, *more)
        assert back.exit_code == 1
        assert f"{result.parent / 'current.json'}: it leads to" in back.output
        assert what in back.output


def test_going_back_to_an_older_genuine_adapter_is_seen_and_a_refresh_serves_the_newer_again(copy: Path) -> None:
    adapters = lake_of(copy).place("finetune/adapter", DOMAIN)
    pointer = adapters / "served.json"
    older = pointer.read_bytes()
    (copy.parent / "domains" / DOMAIN / "domain.toml").write_text('title = "Sums"\n[finetune]\nseed = 1\n')
    refresh(copy, DOMAIN)
    newer = pointer.read_bytes()
    was, now = (file_sha256(adapters / json.loads(said)["version"] / "manifest.json") for said in (older, newer))
    assert was != now
    assert g2is(copy, "audit", "verify").exit_code == 0
    pointer.write_bytes(older)
    for words in ((DOMAIN,), ()):
        back = g2is(copy, "audit", "verify", *words)
        assert back.exit_code == 1
        assert f"finetune/adapter[{DOMAIN}]: BROKEN" in back.output
        said = f"altered: {pointer}: it leads to {was[:12]}, Dagster's last event says {now[:12]}: it was rolled back"
        assert said in back.output
        assert "refresh again" in back.output
    refresh(copy, DOMAIN)
    assert pointer.read_bytes() == newer
    assert g2is(copy, "audit", "verify", DOMAIN).exit_code == 0


def documented(command: str, **stands_for: object) -> str:
    """A command of the document, for a shell, with what stands for something of the reader's own."""
    (line,) = re.findall(rf"^{re.escape(command)} .*$", DOCUMENT.read_text(encoding="utf-8"), flags=re.M)
    for word, own in stands_for.items():
        line, n_times = re.subn(rf"\b{word}\b", lambda _, own=own: shlex.quote(str(own)), line)
        assert n_times == 1, line
    return line


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed: it comes with OpenSSH")
def test_the_witness_file_is_signed_and_checked_by_the_documented_commands(copy: Path, tmp_path: Path) -> None:
    file, key, signers = (tmp_path / name for name in ("witness.jsonl", "my key", "signers"))

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert g2is(copy, "audit", "witness", str(file)).exit_code == 0
    made = shell(f"ssh-keygen -q -t ed25519 -N '' -C '' -f {shlex.quote(str(key))}")
    assert made.returncode == 0, made.stderr
    signers.write_text(f"ann@example.org {key.with_name('my key.pub').read_text()}")
    signed = shell(documented("ssh-keygen -Y sign", KEY=key))
    assert signed.returncode == 0, signed.stderr
    check = documented("ssh-keygen -Y verify", SIGNERS=signers, WHO="ann@example.org")
    good = shell(check)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith('Good "g2is" signature for ann@example.org')
    line = file.read_text()
    file.write_text(re.sub('"at": "20', '"at": "19', line))
    assert file.read_text() != line
    refused = shell(check)
    assert refused.returncode != 0
    assert "Good" not in refused.stdout
    file.write_text(line)
    assert shell(check.replace("ann@", "bob@")).returncode != 0
    assert shell(check).returncode == 0


def test_a_file_kept_elsewhere_tells_what_a_wiped_history_cannot(copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "witness.jsonl"
    assert g2is(copy, "audit", "witness", str(file)).exit_code == 0
    assert "nothing is new" in g2is(copy, "audit", "witness", str(file)).stdout
    assert len(file.read_text().splitlines()) == 1
    shutil.rmtree(copy.parent / ".dagster")
    assert g2is(copy, "audit", "verify").exit_code == 3
    assert [one["unwitnessed"] for one in answer_any(copy, "audit", "verify")] == [True]
    assert g2is(copy, "audit", "verify", "--witness", str(file)).exit_code == 0
    where = scores(copy)
    result = g2is(copy, "audit", "verify", "--witness", str(file))
    assert result.exit_code == 1
    assert f"{where}: its digest is" in result.output
    assert "gone from the lake" in result.output
    file.write_text(file.read_text() + file.read_text())
    refused = g2is(copy, "audit", "verify", "--witness", str(file))
    assert refused.exit_code == 1
    assert "line 2: no record of heads (it does not follow from the line before it)" in refused.stderr


def answer_any(settings: Path, *arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(g2is(settings, *arguments, "--json").stdout)
    return found


class Takes(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    taken: list[bytes] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_heads_are_posted_to_an_address(copy: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Takes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = g2is(copy, "audit", "witness", f"http://127.0.0.1:{server.server_port}/heads")
    finally:
        server.shutdown()
        server.server_close()
    assert done.exit_code == 0, done.stderr
    heads = json.loads(Takes.taken[0])["heads"]
    adapter = lake_of(copy).current("finetune/adapter", DOMAIN)
    assert heads[f"finetune/adapter[{DOMAIN}]"] == heads[f"served[{DOMAIN}]"] == adapter.as_input.manifest_sha256
    nobody = g2is(copy, "audit", "witness", f"http://127.0.0.1:{server.server_port}/heads")
    assert nobody.exit_code == 1
    assert "cannot be written" in nobody.stderr
