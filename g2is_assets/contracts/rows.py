"""A row between its file and its table: usable, or set aside with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from g2is_assets.hashing import json_sha256


@dataclass(frozen=True)
class Instruction:
    """One usable row, before tokenization.

    Attributes:
        messages: The prompt's turns, each with `role` and `content`.
        response: The last assistant turn.
        source, license: As the row says, else as its pool source says, else the file's name and `unknown`.
        id, answer, choices: As the row says.
        file, line: Where it stands.
    """

    messages: tuple[Mapping[str, str], ...]
    response: str
    source: str
    license: str
    file: str
    line: int
    id: str | None = None
    answer: str | None = None
    choices: tuple[str, ...] | None = None

    @property
    def row_id(self) -> str:
        """Content hash: 128 bits over messages and response."""
        return json_sha256([[dict(m) for m in self.messages], self.response])[:32]

    @property
    def prompt(self) -> str:
        """The prompt's turns as text, for people."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n".join(f"{m['role']}: {m['content']}" for m in self.messages)


@dataclass(frozen=True)
class Unusable:
    """A row set aside, with its reason."""

    file: str
    line: int
    id: str | None
    source: str
    reason: str
