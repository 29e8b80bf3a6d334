"""Invoice lines for the tests of the shop's models."""

import numpy as np
import pandas as pd

START = pd.Timestamp("2010-01-01", tz="UTC")
LINE = {
    "invoice": "489434",
    "stock_code": "85123a",
    "description": "White hanging HEART t-light",
    "quantity": 6,
    "price": 2.55,
    "customer_id": "13085.0",
}
NO_SALES = (
    {"invoice": "C489434"}, {"invoice": "A506401"}, {"quantity": 0}, {"quantity": -6}, {"price": 0.0}, {"price": -5.0},
    {"stock_code": "POST"}, {"stock_code": "M"}, {"stock_code": "DCGS0058"},
)  # fmt: skip


def lines(*changes: dict[str, object]) -> pd.DataFrame:
    """One line a day from 1 January 2010, each the usual one with changes, indexed by line_id."""
    index = pd.RangeIndex(1, len(changes) + 1, name="line_id")
    usual = {**LINE, "invoice_date": START}
    made = [{**usual, "invoice_date": START + pd.Timedelta(days=day), **change} for day, change in enumerate(changes)]
    rows = pd.DataFrame(made, index=index, columns=list(usual))
    text = dict.fromkeys(("invoice", "stock_code", "description", "customer_id"), "str")
    return rows.astype({**text, "quantity": "int64", "price": "float64", "invoice_date": "datetime64[us, UTC]"})


def a_shop(days: int = 200) -> pd.DataFrame:
    """Four invoices of one to five lines a day, of eight products with a price each; some customers unknown, some lines
    cancelled weeks later, some no sales at all."""
    random = np.random.default_rng(0)
    made: list[dict[str, object]] = []
    for number in range(4 * days):
        customer = None if number % 5 == 0 else f"{random.integers(12000, 12012)}.0"
        moment = START + pd.Timedelta(days=number // 4, hours=9 + number % 4, minutes=int(random.integers(60)))
        for product in random.permutation(8)[: random.integers(1, 6)]:
            line = {
                "invoice": f"{500000 + number}",
                "invoice_date": moment,
                "stock_code": f"{22000 + product}",
                "description": None if product == 7 else f"PRODUCT {'ABCDEFGH'[product]}",
                "quantity": int(random.integers(-1, 20) + product),
                "price": float(1 + product),
                "customer_id": customer,
            }
            made.append(line)
            if customer is not None and random.random() < 0.05 + 0.05 * (product == 3):
                later = moment + pd.Timedelta(days=int(random.integers(1, 90)))
                made.append({**line, "invoice": f"C{500000 + number}", "invoice_date": later, "quantity": -1})
    made = [line for line in made if line["invoice_date"] < START + pd.Timedelta(days=days)]
    return lines(*sorted(made, key=lambda line: line["invoice_date"]))
