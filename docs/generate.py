"""Writes docs/settings.md from the settings classes, and the list of files in docs/architecture.md: run it as it is."""

import ast
from pathlib import Path

from g2is_assets.settings.config import Settings
from g2is_assets.settings.document import document
from g2is_assets.settings.project import DomainFile
from g2is_assets.stages.studies import StudyFile

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "g2is_assets"
HEAD = """# Settings

Every key of a project's files. Unknown keys and values out of bounds are refused when the files load. What the paper
sets stands in [data/g2is.toml](../data/g2is.toml) beside the demo's values. This page is generated from the settings
classes: `python docs/generate.py`.
"""
FILES = (("g2is.toml", Settings), ("domains/<name>/domain.toml", DomainFile), ("studies/<name>.toml", StudyFile))
LIST = "## Every file\n"
OTHERS = {
    "dagster.yaml": "Dagster's instance settings, as a project gets them at first.",
    "model_card.md.j2": "The model card, as a template.",
    "report.css": "The report's style.",
    "report.html.j2": "The report's template.",
    "report.js": "What the report can do without a network.",
}


def settings() -> str:
    """docs/settings.md."""
    return f"{HEAD}\n{document(FILES)}"


def architecture() -> str:
    """docs/architecture.md with the list of files as it is now; the text before it is written by hand."""
    said = (HERE / "architecture.md").read_text(encoding="utf-8").partition(LIST)[0]
    return f"{said}{LIST}\nEach with the first sentence of its own text (`python docs/generate.py`).\n{files()}"


def files() -> str:
    """Every file of the package by folder, each with what it is."""
    lines = []
    for folder in sorted({file.parent for file in PACKAGE.rglob("*.py")}):
        here = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix in {".py", ".yaml", ".css", ".j2", ".js"})
        lines += ["", f"**{folder.relative_to(PACKAGE.parent).as_posix()}/**: {sentence(folder / '__init__.py')}", ""]
        lines += [f"- `{file.name}`: {sentence(file)}" for file in here if file.name != "__init__.py"]
    return "\n".join(lines) + "\n"


def sentence(file: Path) -> str:
    """The first paragraph of a module's docstring."""
    if file.suffix != ".py":
        return OTHERS[file.name]
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


if __name__ == "__main__":
    (HERE / "settings.md").write_text(settings(), encoding="utf-8")
    (HERE / "architecture.md").write_text(architecture(), encoding="utf-8")
