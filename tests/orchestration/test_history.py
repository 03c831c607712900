"""Dagster's history tells which assets' materialisations show the beginning of a row."""

import dagster as dg

from g2is_assets.orchestration.auditing import FIRST_ROWS, assets_showing

ROW, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def report(instance: dg.DagsterInstance, asset: str, text: str) -> None:
    metadata = {FIRST_ROWS: dg.MetadataValue.md(text)}
    instance.report_runless_asset_event(dg.AssetMaterialization(asset.split("/"), metadata=metadata))


def test_every_materialisation_is_searched_not_only_the_last(instance: dg.DagsterInstance) -> None:
    assert assets_showing(instance, [ROW]) == {ROW: []}
    report(instance, "instructions/pool", f"| {ROW} | text |")
    for number in range(120):
        report(instance, "instructions/pool", f"| {number:032d} | text |")
    report(instance, "selection/subset", f"1. `{ROW[:8]}` text")
    report(instance, "graph/neighbors", f"| {ROW} | a number |")
    assert assets_showing(instance, [ROW, OTHER]) == {ROW: ["instructions/pool", "selection/subset"], OTHER: []}
    instance.wipe_assets([dg.AssetKey(["instructions", "pool"])])
    assert assets_showing(instance, [ROW]) == {ROW: ["selection/subset"]}
