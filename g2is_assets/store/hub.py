"""Data sets of the Hugging Face hub: which files hold a split at a commit, fetched once into the hub's own cache.

The cache, a mirror (`HF_ENDPOINT`), a token (`HF_TOKEN`) and staying offline (`HF_HUB_OFFLINE`) are those of
`huggingface_hub`. Nothing of a data set is run: its README says what it holds, else the names of its files do.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from g2is_assets.errors import SourceError
from g2is_assets.settings.config import FORMATS, ROWS_FILE, Source
from g2is_assets.settings.redaction import scrubbed

HUB: Final = "hub:"
"""What names of data sets and of their files begin with, in place of an address."""
_SHARD: Final = re.compile(r"(?:^|/)([\w.]+)-\d{5}-of-\d{5}[\w.-]*$")
DEFAULT: Final = "default"
KEYWORDS: Final = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words by which names of files and folders tell a split, as the hub's own library takes them."""


def name_of(source: Source) -> str:
    """How recipes and messages name a split of a data set, at whichever commit its revision is."""
    at = f"@{source.revision}" if source.revision else ""
    return f"{HUB}{source.hub}{at}/{source.config or DEFAULT}/{source.split or 'train'}"


def commit_of(source: Source) -> str:
    """The commit that a source's revision is now; offline, the one that it was when it was last asked for.

    Raises:
        SourceError: The hub has no such data set or revision, or cannot be asked.
    """
    from huggingface_hub import HfApi

    with _asking(source):
        return HfApi().resolve_revision(str(source.hub), repo_type="dataset", revision=source.revision).resolved


def fetched(source: Source) -> list[tuple[str, str]]:
    """The files of a split, in this machine's cache, each with the name that rows are to give.

    Raises:
        SourceError: The data set, its revision, configuration or split is not there, or cannot be fetched.
    """
    from huggingface_hub import metadata_load

    commit, split = commit_of(source), source.split or "train"
    # A file that every repository has beside one that it may have: with neither, the hub would be said to have none.
    readme = _snapshot(source, commit, ["README.md", ".gitattributes"]) / "README.md"
    try:
        said = (metadata_load(readme) if readme.is_file() else None) or {}
    except Exception as error:  # what stands in a README can be broken in many ways
        raise SourceError(f"{name_of(source)}: its README cannot be read: {_first(error)}; use `path`") from None
    config = _configuration(source, said.get("configs"))
    splits = _as_said(config) or _by_names(_listed(source, commit), str(config.get("data_dir") or ""))
    if split not in splits:
        found = ", ".join(sorted(splits)) or "none; it has no files that can be read"
        raise SourceError(f"{name_of(source)}: it has no split '{split}'; `split` may be: {found}")
    folder = _snapshot(source, commit, splits[split])
    chosen = _matching(_below(folder), splits[split])
    if not chosen:
        raise SourceError(f"{name_of(source)}: no file is named {', '.join(splits[split])}, as its README says")
    return [(str(folder / name), f"{HUB}{source.hub}/{name}") for name in chosen]


def _configuration(source: Source, configs: Any) -> Mapping[str, Any]:
    """What the README says of the configuration; empty where it names none."""
    known = {str(said.get("config_name", DEFAULT)): said for said in _list(configs) if isinstance(said, Mapping)}
    known = {name: said for name, said in known.items() if said.get("data_files") or said.get("data_dir")}
    if not known and source.config is None:
        return {}
    default = [name for name, said in known.items() if said.get("default") or name == DEFAULT or len(known) == 1]
    name = source.config or (default[0] if default else None)
    if name not in known:
        what = "it has no such configuration" if name else "it has several configurations and none is the default"
        raise SourceError(f"{name_of(source)}: {what}; `config` may be: {', '.join(sorted(known)) or 'left out'}")
    return known[name]


def _as_said(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """By split, how the README says that its files are named."""
    said, folder = config.get("data_files"), str(config.get("data_dir") or "").strip("./")
    entries = [{"split": split, "path": path} for split, path in said.items()] if isinstance(said, Mapping) else said
    splits: dict[str, list[str]] = {}
    for entry in _list(entries):
        whole = entry if isinstance(entry, Mapping) else {"path": entry}
        paths = [str(path).removeprefix("./") for path in _list(whole.get("path"))]
        splits.setdefault(str(whole.get("split", "train")), []).extend(f"{folder}/{p}" if folder else p for p in paths)
    return splits


def _by_names(names: list[str], folder: str) -> dict[str, list[str]]:
    """By split, how its files are named, where the README does not say: as trainers and the hub itself name them."""
    below = f"{folder.strip('./')}/" if folder else ""
    names = [name for name in names if ROWS_FILE.search(name) and name.startswith(below)]
    shards = sorted({found[1] for name in names if (found := _SHARD.search(name))})
    starts_of = {split: [f"**/{split}-[0-9]*-of-*"] for split in shards} or {
        split: [start for word in words for start in _starts(word)] for split, words in KEYWORDS.items()
    }
    splits = {}
    for split, starts in starts_of.items():
        patterns = [f"{below}{start}.{ending}*" for start in starts for ending in FORMATS]
        if _matching(names, patterns):
            splits[split] = patterns
    return splits or ({"train": [f"{below}**/*.{ending}*" for ending in FORMATS]} if names else {})


def _starts(word: str) -> list[str]:
    """How names with a word in it go on to their ending: the word apart from others, or as a folder."""
    apart, more = "[-._ 0-9]", (word, f"*[-._ 0-9]{word}")
    return [f"**/{start}{rest}" for start in more for rest in ("", f"{apart}*")] + [f"**/{word}/*", f"**/{word}/**/*"]


def _listed(source: Source, commit: str) -> list[str]:
    """Names of all files at a commit; offline, of those that were fetched."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    with _asking(source):
        try:
            return sorted(HfApi().list_repo_files(str(source.hub), repo_type="dataset", revision=commit))
        except OfflineModeIsEnabled:
            return _below(_snapshot(source, commit, []))


def _snapshot(source: Source, commit: str, patterns: list[str]) -> Path:
    """The folder of a commit in the hub's cache, where all files of these names are, and maybe more."""
    from huggingface_hub import snapshot_download

    # The hub's `*` goes through folders; `**/` it would have to find.
    wider = sorted({*patterns, *(pattern.replace("**/", "") for pattern in patterns)})
    with _asking(source):
        return Path(snapshot_download(str(source.hub), repo_type="dataset", revision=commit, allow_patterns=wider))


def _below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _matching(names: list[str], patterns: list[str]) -> list[str]:
    from fsspec.utils import glob_translate

    wanted = [re.compile(glob_translate(pattern)) for pattern in patterns]
    return [name for name in names if any(pattern.match(name) for pattern in wanted)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


@contextmanager
def _asking(source: Source) -> Iterator[None]:
    """What the hub and its library raise, as one error that says what to do, without credentials."""
    from huggingface_hub import errors

    try:
        yield
    except SourceError:
        raise
    except errors.GatedRepoError:
        what = "its owner gives access on request; ask for it on the hub, and set HF_TOKEN to a token of yours"
    except errors.RepositoryNotFoundError:
        what = (
            "the hub has no such data set, or it is private; correct `hub`, or set HF_TOKEN to a token that may read it"
        )
    except errors.RevisionNotFoundError:
        what = f"it has no revision '{source.revision}'; correct `revision`, a branch, tag or commit"
    except (errors.LocalEntryNotFoundError, errors.RevisionResolutionError, errors.OfflineModeIsEnabled) as error:
        what = f"not all of it is in this machine's cache, and the hub cannot be asked: {_first(error)}"
        what += "; refresh once with a network and without HF_HUB_OFFLINE"
    except Exception as error:  # of several libraries
        what = f"the hub cannot be read: {_first(error)}; try again, or use `path`"
    else:
        return
    # Without the cause, whose text may hold the credentials of a mirror: Dagster stores causes.
    raise SourceError(f"{name_of(source)}: {what}") from None


def _first(error: Exception) -> str:
    return scrubbed((str(error).strip().splitlines() or [type(error).__name__])[0])
