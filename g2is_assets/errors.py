"""The errors that a person can mend: each names the file, row or setting and what to do.

Nothing else belongs here. A programming error stays a plain Python exception with its traceback.
"""


class G2isError(Exception):
    """Base of all errors caused by input, settings or the machine; the command line prints them without traceback."""


class SettingsError(G2isError):
    """A settings file, domain file or command-line value is wrong."""


class SourceError(G2isError):
    """A pool source or domain file cannot be used."""


class ModelError(G2isError):
    """A model, tokenizer or adapter cannot be loaded or does not fit its settings."""


class ContractError(G2isError):
    """A table does not keep its contract; raised before anything is written and again on reading."""


class MissingInputError(G2isError):
    """An upstream asset has not been materialised, or its files are gone."""


class StoreError(G2isError):
    """The lake is damaged, or cannot be written."""


class StudyPaused(G2isError):
    """A study's time is over; what is finished is kept, and the same command goes on from there."""


class UnusableRow(G2isError):
    """Why a row is set aside."""


class UnknownShape(UnusableRow):
    """A row has the columns of no shape."""
