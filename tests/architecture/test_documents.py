"""What README says exists: its paths, its commands, its two one-line set-ups."""

import re
from pathlib import Path

from click.testing import CliRunner

from g2is_assets.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Lines of shell blocks, without prompts and comments."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, flags=re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_first_lines_for_demo_and_tests_do_all_the_set_up() -> None:
    demo = next(line for line in README.splitlines() if "g2is demo" in line)
    tests = next(line for line in commands() if "pytest" in line)
    for line, requirement in ((demo, "-e ."), (tests, "-e '.[test]'")):
        assert line.startswith("python3 -m venv .venv && ")
        assert f"pip install -c constraints.txt {requirement} && " in line
    assert demo.endswith(".venv/bin/g2is demo")
    assert tests.endswith(".venv/bin/pytest")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_path_in_the_file_tree_exists() -> None:
    tree = re.search(r"```text\n(g2is_assets/.*?)```", README, flags=re.S)
    assert tree
    folders: list[str] = []
    seen = 0
    for line in tree.group(1).splitlines():
        name = line.split()[0] if line.split() else ""
        if not name:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name.rstrip("/")]
        for alternative in name.rstrip("/").split(","):
            path = ROOT.joinpath(*folders[:-1], alternative)
            assert path.exists(), f"README names {path.relative_to(ROOT)}, which is not there"
            seen += 1
    assert seen > 30


def test_every_relative_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_of_the_readme_is_one_that_the_program_has() -> None:
    used = {match for line in commands() for match in re.findall(r"\bg2is ([a-z]+)", line)}
    assert {"demo", "ui"} <= used
    for name in used:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, name
        assert "Example:" in result.output
        assert "\\b" not in result.output
