"""A small page's material, with rows that try to be more than text."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.contracts import audit, finetune, graph, instructions, selection
from g2is_assets.reports.page.material import Before, Checked, Material
from g2is_assets.store.manifest import Input, Manifest
from g2is_assets.store.version import Version
from g2is_assets.trail.subset_diff import Change, Difference
from support.rows import UNREMARKABLE, answered

HOSTILE = [
    "<script>window.ran = 1</script> hello",
    '</script><img src=x onerror="window.ran = 2"> & \'quotes\' "both" ]]> <!-- -->',
    "# Heading\n\n| a | b |\n\n[link](javascript:alert(1)) ![i](https://example.com/x.png) `code` **bold**",
    "שלום עולם \u202eevil\u202c \u2067x\u2069 مرحبا",
    "line \u2028 and \u2029 separators \x00 \x1b[31m \ud7ff tab\tend\r\nnext",
    "{{ 7 * 7 }} {% raw %} ${window.ran = 3} \\u003cscript\\u003e",
    "long " + "word " * 2000,
    "javascript:\"/*'/*`/*--></noscript></title></textarea></style></template></noembed></script><svg/onload=alert()>//",
]
N_TAKEN = len(HOSTILE)


def row_id(number: int, kind: str = "a") -> str:
    return f"{kind}{number:031x}"


def row(number: int, text: str, kind: str = "a", source: str = "plain") -> dict[str, Any]:
    return {
        "row_id": row_id(number, kind),
        "ids": [],
        "sources": [source],
        "licenses": ["MIT <b>&"] if number % 2 else ["unknown"],
        "messages": answered([{"role": "user", "content": text}], "r"),
        "prompt": text,
        "response": f"answer to {text}",
        "n_prompt_tokens": 5 + number,
        "n_response_tokens": 3 + number,
        "answer": None,
        "choices": None,
        **UNREMARKABLE,
    }


def manifest(**settings: Any) -> Manifest:
    return Manifest(
        asset="selection/subset",
        partition="shop",
        data_version="d" * 64,
        input_digest="e" * 64,
        code_version="3",
        settings={"walk": "balanced", "delta": 0.0, "min_core_cosine": None, **settings},
        inputs={"instructions/pool": Input(data_version="f" * 64, manifest_sha256="a" * 64)},
        files={},
        n_rows={"subset": N_TAKEN},
        metrics={},
        run_id="0123456789abcdef",
        created_at="2025-01-02T03:04:05+00:00",
        git_revision="unknown",
        libraries={"python": "3.11"},
    )


def subset() -> pl.DataFrame:
    rows = [
        {
            "domain": "shop",
            "order": n,
            "row_id": row_id(n),
            "component": 0,
            "step": n,
            "predecessor": row_id(n - 1) if n else None,
            "core_cosine": 0.5,
            "consistency": 0.5,
            "score": 0.4,
            "margin": 0.1,
            "error": 0.01,
            "pull": 0.5,
            "redundancy": 0.1,
            "nearest_row": row_id(n - 1) if n else None,
            "nearest_cosine": 0.2 if n else None,
            "pulled_by": [{"row_id": row_id(0, "b"), "cosine": 0.9}],
        }
        for n in range(N_TAKEN)
    ]
    return pl.DataFrame(rows, schema=selection.SUBSET.schema)


def lineage() -> tuple[pl.DataFrame, pl.DataFrame]:
    made = manifest(withdrawn={row_id(99): "asked by a person with a name"})
    record = {
        "domain": "shop",
        "partition": "shop",
        "version": "0123456789ab-cdef01234567",
        **{name: getattr(made, name) for name in ("data_version", "input_digest", "code_version", "git_revision")},
        **{name: getattr(made, name) for name in ("made_by", "run_id", "created_at")},
        "seeds": "{}",
        "settings": json.dumps(made.settings | {"system": "</script><script>alert(1)</script>"}),
        "libraries": json.dumps(made.libraries),
        "n_rows": json.dumps(made.n_rows),
    }
    heads = [("finetune/adapter", 0, "1" * 64), ("selection/subset", 1, "2" * 64)]
    rows = [record | {"asset": asset, "depth": depth, "manifest_sha256": sha} for asset, depth, sha in heads]
    link = {"domain": "shop", "asset": "finetune/adapter", "manifest_sha256": "1" * 64}
    links = [
        link | {"input": "file:<i>.jsonl", "input_data_version": "3" * 64, "input_manifest_sha256": None},
        link | {"input": "selection/subset", "input_data_version": "d" * 64, "input_manifest_sha256": "2" * 64},
    ]
    return pl.DataFrame(rows, schema=audit.LINEAGE.schema), pl.DataFrame(links, schema=audit.LINKS.schema)


def evaluated(metrics: Mapping[str, int | float | str]) -> Manifest:
    """The manifest of an evaluation with these metrics, and those that say that no answer could be judged."""
    metrics = {"n_asked": 0, "n_vocabulary": 50000, "n_scored": 40, **metrics}
    inputs = {name: Input(data_version="f" * 64, manifest_sha256="a" * 64) for name in ("instructions/target",)}
    return manifest().model_copy(update={"asset": "finetune/evaluation", "metrics": metrics, "inputs": inputs})


def before() -> Before:
    """An adapter before, of whose rows one that the pool still has went, and one that it has not."""
    old = {"split": "test", "nll_base": 1.5, "nll_random": 1.3, "nll_g2is": 1.4}
    changes = [
        Change(row_id(0), True, "new in the pool"),
        Change(row_id(1000), False, "the walk's choice"),
        Change(row_id(5000), False, "left the pool"),
    ]
    version = Version(Path("0123456789ab-000000000000"), manifest())
    cause = "instructions/pool: another version (file:<i> changed)"
    return Before(evaluated(old), Difference(version, version, N_TAKEN - 1, changes, [cause], {}, (None, None)))


def material(n_others: int = 12, **changes: Any) -> Material:
    """Every hostile row is taken, and as many plain ones as asked are not."""
    others = [row(1000 + n, f"plain row {n}", source="<b>other</b>") for n in range(n_others)]
    pool = pl.DataFrame(
        [row(n, text, source="s & t" if n else "plain") for n, text in enumerate(HOSTILE)] + others,
        schema=instructions.POOL.schema,
    )
    own = [{"domain": "shop", "split": "validation"} | row(n, text, "b") for n, text in enumerate(HOSTILE[:3])]
    own.append({"domain": "shop", "split": "test"} | row(7, "measured <i>only</i>", "b"))
    places = pl.DataFrame(
        {
            "row_id": pool["row_id"],
            "x": [float(n % 5) for n in range(len(pool))],
            "y": [n / 7 for n in range(len(pool))],
        },
        schema=graph.MAP.schema,
    )
    answers = [
        ("shop", row_id(7, "b"), model, "best", f"</pre><script>{model}</script>", model == "g2is")
        for model in ("base", "g2is")
    ]
    scored = [7, *range(100, 139)]
    losses = {"base": 1.5, "random": 1.305, "g2is": 1.3}
    scores = [
        ("shop", "test", row_id(n, "b"), model, nll - 0.5 * (n == 100 and model == "g2is"), 3, None)
        for model, nll in losses.items()
        for n in scored
    ]
    log = pl.DataFrame(
        [(0, 0.0, None, None, 1.5), (1, 1.0, 1.4, 0.1, 1.3)], schema=finetune.ADAPTER_LOG.schema, orient="row"
    )
    differences = {"minus_base": -0.2, "minus_base_low": -0.3, "minus_base_high": -0.1}
    differences |= {"n_vocabulary": 49152, "n_asked": 0}
    differences |= {"minus_random": 0.01, "minus_random_low": -0.05, "minus_random_high": 0.07}
    chain, links = lineage()
    found = Material(
        domain="shop",
        title='Shops <script>alert("title")</script>',
        model="a/model",
        evaluated=evaluated({"split": "test", "nll_base": 1.5, "nll_random": 1.29, "nll_g2is": 1.3, **differences}),
        scores=pl.DataFrame(scores, schema=finetune.SCORES.schema, orient="row"),
        trained=log,
        random_trained=log,
        budgets=pl.DataFrame(
            [("shop", 0, 1.0, N_TAKEN, N_TAKEN, N_TAKEN, "budget")], schema=selection.BUDGETS.schema, orient="row"
        ),
        left=pl.DataFrame(
            [
                {"domain": "shop", "component": 0, "row_id": row_id(1000 + n), "core_cosine": 0.1, "n_inconsistent": 0}
                | {"rank": n + 1, "pull": 0.1, "redundancy": 0.02}
                for n in range(min(n_others, 11))
            ],
            schema=selection.LEFT.schema,
        ),
        own_places=pl.DataFrame({"row_id": [row_id(1, "b"), row_id(2, "b")], "x": [1.0, 2.5], "y": [0.5, 1.5]}),
        answers=pl.DataFrame(answers, schema=finetune.ANSWERS.schema, orient="row"),
        made=manifest(),
        subset=subset(),
        excluded=pl.DataFrame(
            [
                ("shop", row_id(1), "equal", row_id(7, "b"), "test", 1.0),
                ("shop", row_id(2), "near-duplicate", "x", None, None),
            ],
            schema=selection.EXCLUDED.schema,
            orient="row",
        ),
        pool=pool,
        rejected=pl.DataFrame(
            [("f", n, None, "s", f"no response left: {n} tokens <b>") for n in (1, 2)],
            schema=instructions.REJECTED.schema,
            orient="row",
        ),
        withheld=pl.DataFrame(
            [
                (row_id(98), [], ["s"], ["CC-BY-NC"], "license", "CC-BY-NC"),
                (row_id(99), [], ["s"], ["MIT"], "withdrawn", "asked by a person with a name"),
            ],
            schema=instructions.WITHHELD.schema,
            orient="row",
        ),
        target=pl.DataFrame(own, schema=instructions.TARGET.schema),
        target_rejected=pl.DataFrame(schema=instructions.REJECTED.schema),
        target_withheld=pl.DataFrame(schema=instructions.WITHHELD.schema),
        places=places,
        lineage=chain,
        links=links,
        checks=[
            Checked("walk_stays_home", "It stays <home>.", "warning", False, "cosine 0.1 & less"),
            Checked("budgets_add_up", "They add up.", "error", True, "all"),
        ],
    )
    return replace(found, **changes)
