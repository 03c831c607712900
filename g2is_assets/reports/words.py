"""Other people's text in a terminal."""


def printable(text: str) -> str:
    """The text in one line, with every control character replaced: it cannot move the cursor or recolour the screen."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
