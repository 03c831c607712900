"""Pool: small Python functions, hand-written; the check of each one (T) is run before the row is kept."""

import re

from common import Row, blocks


def rows() -> list[Row]:
    """The rows, after running the code of each one against its check."""
    found = []
    for block in blocks("python_functions"):
        code = re.search(r"```python\n(.*?)```", block["A"], re.DOTALL)
        scope: dict[str, object] = {}
        exec(f"{code[1] if code else ''}\npassed = {block['T']}", scope)
        if not scope["passed"]:
            raise ValueError(f"the code does not do what was asked: {block['Q']}")
        found.append(Row(block["Q"], block["A"]))
    return found
