"""Write the sample data: `python data/generate [FOLDER]`; the folder is data/ unless another is named."""

import sys
from pathlib import Path

from common import save
from domains import DOMAINS, TITLES
from pool import SOURCES

VALIDATION_ROWS = 20
ENDINGS = {"general_knowledge": ".csv", "rewriting": ".json", "advice": ".messages.jsonl"}


def main(folder: Path) -> None:
    """Write every file of the pool and of the domains; the same files each time."""
    for source, make in SOURCES.items():
        save(folder / "pool" / f"{source}{ENDINGS.get(source, '.jsonl')}", source, source, make())
    for domain, make in DOMAINS.items():
        rows, target = make(), folder / "domains" / domain
        save(target / "validation.jsonl", f"{domain}:validation", domain, rows[:VALIDATION_ROWS])
        save(target / "test.jsonl", f"{domain}:test", domain, rows[VALIDATION_ROWS:])
        title = f'title = "{TITLES[domain]}"\n'
        (target / "domain.toml").write_text(title, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
