"""The logarithm of an order's value, from what is known when it is opened. Nothing drifts here: the fleet's control."""

from models.shop import shop
from models.shop._lines import once, past, sales
from perennial import Cadence, Days, Gate, Model, Owner

HISTORY_DAYS = 90


def examples(rows, as_of):
    """One row per invoice, under its number: the clean lines of its first minute, and its customer's orders before."""
    import numpy as np
    import pandas as pd

    lines = once(sales(rows))
    opened = lines.groupby("invoice")["invoice_date"].transform("min")
    lines = lines[lines["invoice_date"] == opened]
    orders = lines.groupby("invoice").agg(moment=("invoice_date", "min"), key=("customer_id", "first"))
    orders["value"] = np.log((lines["quantity"] * lines["price"]).groupby(lines["invoice"]).sum())
    history = past(orders, orders, Days(HISTORY_DAYS)).add_prefix("past_")
    names = {"moment": "event_time", "key": "customer_id", "value": "target"}
    return pd.concat([orders.rename(columns=names).assign(label_time=orders["moment"]), history], axis=1)


def features(examples):
    """When the order is opened, and by whom."""
    import pandas as pd

    opened = examples["event_time"].dt
    return pd.DataFrame(
        {
            "morning": (opened.hour < 12).astype(float),
            "weekday": opened.weekday.astype(float),
            "has_customer": examples["customer_id"].notna().astype(float),
            "orders": examples["past_number"],
            "mean_log_value": examples["past_mean"].fillna(0.0),
            "days_since": examples["past_days_since"].fillna(HISTORY_DAYS + 1),
        },
        index=examples.index,
    )


def estimator():
    """Boosted trees, shallow for few orders."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=40, max_leaf_nodes=8, min_samples_leaf=50, early_stopping=False, random_state=0
    )


order_value = Model(
    name="order_value",
    owner=Owner("orders", alerts=("mailto://orders@example.com",)),
    source="order_lines",
    countries=shop.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(180),
    lookback=Days(HISTORY_DAYS),
    holdout=Days(30),
    gate=Gate(floor=1.25),
    cadence=Cadence(min_new_rows=100, max_age=Days(60)),
    columns=("invoice", "stock_code", "quantity", "invoice_date", "price", "customer_id"),
)
