"""The pages of `audit/report` as files: names, what an erasure leaves of one, and the way to the current one."""

from typing import Final

from g2is_assets.store.files import write_atomically
from g2is_assets.store.version import Version

PAGE: Final = "report.html"

_HTML: Final = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
ERASED_PAGE: Final = (
    f"{_HTML}<title>Report removed</title>\n<p>This report quoted rows that have been erased on request since, so it "
    "was removed. When and which is recorded in erased.json beside it. A refresh of the domain makes the report of "
    "today.</p>\n</html>\n"
).encode()
"""What stands in a page's place once it quoted a row that was erased: the same bytes always."""


def point_to(version: Version) -> None:
    """Let `report.html` beside the versions lead to this one's page: its address stays the same from run to run."""
    write_atomically(version.folder.parent / PAGE, way_to(version))


def way_to(version: Version) -> str:
    """What that file says: a way to the page and nothing else."""
    target = f"{version.folder.name}/{PAGE}"
    return (
        f'{_HTML}<meta http-equiv="refresh" content="0; url={target}">\n<title>Report</title>\n'
        f'<p><a href="{target}">The current report</a></p>\n</html>\n'
    )
