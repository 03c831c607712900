"""The target domains. Nothing here is used by a source of the pool."""

from collections.abc import Callable

from common import Row, deal

from domains import schedule_days, schedule_hours, shop_goods, shop_outings, support_triage

TITLES = {
    "schedule_reasoning": "Appointments, trips and shifts",
    "shop_arithmetic": "Everyday sums in shops, kitchens and on trips",
    "support_triage": "Customer messages turned into support tickets",
}
DOMAINS: dict[str, Callable[[], list[Row]]] = {
    "schedule_reasoning": lambda: deal(
        "schedule_reasoning", schedule_days.TEMPLATES + schedule_hours.TEMPLATES, 70, limit=0.55
    ),
    "shop_arithmetic": lambda: deal("shop_arithmetic", shop_goods.TEMPLATES + shop_outings.TEMPLATES, 70, limit=0.55),
    "support_triage": support_triage.rows,
}
