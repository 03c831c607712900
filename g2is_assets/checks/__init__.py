"""Asset checks: thin wrappers around pure evaluators. They watch; contracts, checked before a write, protect."""

from g2is_assets.checks.wrappers import CHECKS

__all__ = ["CHECKS"]
