"""Models from PyPI: their parts put together, refused where they are not the right ones, and listed."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from g2is_assets.errors import ModelError
from g2is_assets.training import packaged
from g2is_assets.training.packaged import PACKAGED, Packaged

SAID = Packaged(
    upstream="somebody/model",
    license="MIT",
    distributions=("model-part1==1", "model-part2==1"),
    parts=("model_part1/data/model.00", "model_part2/data/model.01"),
    gguf="model.gguf",
    sha256=hashlib.sha256(b"first half, second half").hexdigest(),
    n_parameters=1,
    megabytes=1,
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two distributions with a part each, installed."""
    for part, content in zip(SAID.parts, (b"first half, ", b"second half"), strict=True):
        file = tmp_path / "site" / part
        file.parent.mkdir(parents=True)
        (file.parents[1] / "__init__.py").touch()
        file.write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(PACKAGED, "model", SAID)
    (tmp_path / "scratch").mkdir()
    return tmp_path


def test_parts_of_several_distributions_are_put_together(installed: Path) -> None:
    found = packaged._find_gguf("model", installed / "scratch")
    assert (found.name, found.read_bytes()) == ("model.gguf", b"first half, second half")


def test_parts_that_are_not_the_right_ones_are_refused_with_both_digests(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGED, "model", replace(SAID, sha256="0" * 64))
    with pytest.raises(ModelError, match=f"has SHA-256 {SAID.sha256}, expected 0000.*--no-deps model-part1"):
        packaged._find_gguf("model", installed / "scratch")


def test_the_command_lists_models_with_their_licences_and_refuses_others() -> None:
    shown = CliRunner().invoke(main, ["model", "fetch"]).output
    for name, said in PACKAGED.items():
        assert name in shown
        assert said.license in shown
    refused = CliRunner().invoke(main, ["model", "fetch", "gpt-17"])
    assert refused.exit_code == 1
    assert "'gpt-17' is none of the models that can be fetched: smollm2" in refused.output
