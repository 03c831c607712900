"""What the code must not do: unpickle, run text as code or as a shell's, trust remote code, paste values into SQL."""

import ast
import socket
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from g2is_assets.errors import ModelError
from g2is_assets.training.model import find_model

ROOT = Path(__file__).parents[2]
FILES = sorted(file for part in ("g2is_assets", "benchmarks") for file in (ROOT / part).rglob("*.py"))
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.serialization"}
MUST_SAY = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
}
MUST_NOT_SAY = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}
KNOWN = {"g2is_assets/store/query.py": ["SQL made from values: asked"]}
"""What is meant to be as it is: a person's own query, on a connection that is read-only and sealed."""
NEVER = {"eval", "exec", "compile", "os.system", "os.popen", "torch.save", "yaml.load", "pl.DataFrame.deserialize"}


def faults(code: str) -> list[str]:
    """Everything in a module that is not allowed, with its line."""
    return [f"line {node.lineno}: {fault}" for node, fault in _faults(ast.parse(code))]


def _faults(tree: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + ([node.module] if isinstance(node, ast.ImportFrom) else [])
            yield from ((node, f"import of {name}") for name in names if name in PICKLERS)
        elif isinstance(node, ast.Call):
            yield from ((node, fault) for fault in _call_faults(node))


def _call_faults(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    said = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    if name in NEVER:
        yield f"call of {name}"
    if name in MUST_SAY and said.get(MUST_SAY[name][0]) is not MUST_SAY[name][1]:
        yield f"{name} without {MUST_SAY[name][0]}={MUST_SAY[name][1]}"
    yield from (f"{key}={said[key]}" for key, value in MUST_NOT_SAY.items() if key in said and said[key] is value)
    if name.endswith((".execute", ".sql", ".executemany")) and call.args and not isinstance(call.args[0], ast.Constant):
        text = ast.unparse(call.args[0])
        if "CREATE VIEW" not in text:  # DuckDB binds no value there
            yield f"SQL made from values: {text}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_module_does_what_it_must_not(file: Path) -> None:
    found = faults(file.read_text(encoding="utf-8"))
    assert [fault.split(": ", 1)[1] for fault in found] == KNOWN.get(file.relative_to(ROOT).as_posix(), [])


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "connection.execute(f'SELECT * FROM t WHERE id = {row}')",
        "connection.execute('SELECT * FROM t WHERE id = ' + row)",
    ],
)
def test_each_of_these_would_be_noticed(code: str) -> None:
    assert faults(code)


def test_whatever_is_printed_goes_through_the_filter() -> None:
    """One place prints: consoles are `Terminal`, all else goes through streams that the group of commands cleans."""
    by_hand = ("Console(", ".buffer.write(", "os.write(", "click.style(", "secho(")
    found = {
        f.name: said for f in FILES if "g2is_assets" in f.parts and (said := [w for w in by_hand if w in f.read_text()])
    }
    assert found == {}


def test_the_only_sql_with_pasted_values_quotes_them() -> None:
    from g2is_assets.store.views import _literal, _name

    odd = 'it\'s "odd"; DROP VIEW x; --'
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {_literal(odd)}").fetchall() == [(odd,)]
        connection.execute(f"CREATE VIEW {_name(odd)} AS SELECT 1")
        assert connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == [(odd,)]


def test_offline_no_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`HF_HUB_OFFLINE=1`, which all tests run with."""
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: asked.append(arguments))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"the model 'nobody/nothing' cannot be loaded: .*set `model`"):
        find_model("nobody/nothing")
    assert asked == []
