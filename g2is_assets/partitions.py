"""The partition set: one static partition per domain folder, read when the definitions load."""

import dagster as dg


def domain_partitions(domains: list[str]) -> dg.StaticPartitionsDefinition:
    """One partition per target domain."""
    return dg.StaticPartitionsDefinition(domains)
