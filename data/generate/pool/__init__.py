"""The sources of the pool. Nothing here is used by a domain."""

from collections.abc import Callable

from common import Row, deal, written

from pool import calendar, clock, lists_and_strings, logic, measures, python_functions, word_problems

SOURCES: dict[str, Callable[[], list[Row]]] = {
    "advice": lambda: written("advice"),
    "calendar": lambda: deal("calendar", calendar.TEMPLATES, 50, limit=0.75),
    "clock": lambda: deal("clock", clock.TEMPLATES, 40, limit=0.75),
    "general_knowledge": lambda: written("general_knowledge"),
    "lists_and_strings": lambda: deal("lists_and_strings", lists_and_strings.TEMPLATES, 60, limit=0.75),
    "logic": lambda: deal("logic", logic.TEMPLATES, 50, limit=0.75),
    "measures": lambda: deal("measures", measures.TEMPLATES, 46, limit=0.75),
    "message_classification": lambda: written("message_classification"),
    "message_extraction": lambda: written("message_extraction"),
    "python_functions": python_functions.rows,
    "rewriting": lambda: written("rewriting"),
    "word_problems": lambda: deal("word_problems", word_problems.TEMPLATES, 60, limit=0.75),
}
