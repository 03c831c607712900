"""The audit trail: what lies behind a version, whether it is untouched, and where a row went."""
