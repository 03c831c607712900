"""The partition sets: domain folders, and for studies their variants as well, read when the definitions load."""

import dagster as dg


def domain_partitions(domains: list[str]) -> dg.StaticPartitionsDefinition:
    """One partition per target domain."""
    return dg.StaticPartitionsDefinition(domains)


def variant_partitions(domains: dg.StaticPartitionsDefinition, variants: list[str]) -> dg.MultiPartitionsDefinition:
    """One partition per target domain and variant of a study, such as `math` and `main.less`."""
    return dg.MultiPartitionsDefinition({"domain": domains, "variant": dg.StaticPartitionsDefinition(variants)})
