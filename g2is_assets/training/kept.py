"""What a chat template keeps of a row, and what it loses."""

import json
from collections.abc import Mapping, Sequence

from g2is_assets.contracts.instructions import Turn

Span = tuple[int, int]


def split_thought(turn: Turn) -> tuple[str, str]:
    """An answer's reasoning, said apart or between `<think>` and `</think>`, and the rest of it."""
    if turn.get("reasoning_content"):
        return turn["reasoning_content"], turn["content"]
    before, closed, after = turn["content"].partition("</think>")
    return (before.rpartition("<think>")[2].strip("\n"), after.lstrip("\n")) if closed else ("", turn["content"])


def what_is_lost(said: Sequence[Turn], whole: str, answers: Mapping[int, Span]) -> tuple[list[str], int]:
    """What is not in the text, of an answer in its own part of it, in words; and how many thoughts are."""
    lost, n_thoughts = [], 0
    for place, turn in enumerate(said):
        own = whole[slice(*answers[place])] if place in answers else whole
        thought, content = split_thought(turn) if turn["role"] == "assistant" else ("", turn["content"])
        if content not in own and json.dumps(content, ensure_ascii=False)[1:-1] not in own:
            lost.append(
                f"white space around {turn['role']} texts" if content.strip() in own else f"{turn['role']} texts"
            )
        elif content and place not in answers and whole.count(content) <= _said_elsewhere(content, said, place, whole):
            lost.append(f"{turn['role']} texts")
        if thought.strip():
            n_thoughts += place in answers and thought.strip() in own
            lost += [] if thought.strip() in own else ["reasoning"]
        calls = [call["function"]["name"] for call in turn.get("tool_calls", ())]
        lost += ["calls of tools" for name in calls if own.count(name) < calls.count(name)]
    return lost, n_thoughts


def _said_elsewhere(content: str, said: Sequence[Turn], place: int, whole: str) -> int:
    """How often other turns that are in the text say it."""
    others = (text for n, turn in enumerate(said) if n != place for text in (turn["content"], split_thought(turn)[0]))
    return sum(text.count(content) for text in others if content in text and text.strip() in whole)
