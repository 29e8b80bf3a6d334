"""The logarithm of an invoice line's quantity, from the history of its product, its price tag and its customer."""

from models.shop import shop
from models.shop._lines import sales
from perennial import Cadence, Days, Gate, Model, Owner

HISTORY = ["code_kind", "tag", "family", "customer"]
PLAIN = ["log_price", "has_customer", "hour"]


def examples(rows, as_of):
    """One row per clean line."""
    import numpy as np
    import pandas as pd

    lines = sales(rows)
    return pd.DataFrame(
        {
            "event_time": lines["invoice_date"],
            "label_time": lines["invoice_date"],
            "target": np.log(lines["quantity"].astype(float)),
            "stock_code": lines["stock_code"],
            "price": lines["price"],
            "customer_id": lines["customer_id"],
        }
    )


def features(examples):
    """The product by code, price tag and family, and who buys it, at what hour."""
    import numpy as np
    import pandas as pd

    code = examples["stock_code"].str.upper()
    has_customer = examples["customer_id"].notna()
    return pd.DataFrame(
        {
            "code": code,
            "code_kind": code + np.where(has_customer, "|known", "|unknown"),
            "tag": code + "|" + (examples["price"] * 100).round().astype("int64").astype(str),
            "family": code.str[:3],
            "customer": examples["customer_id"].fillna("-"),
            "log_price": np.log(examples["price"]),
            "has_customer": has_customer.astype(float),
            "hour": examples["event_time"].dt.hour.astype(float),
        },
        index=examples.index,
    )


def estimator():
    """Boosted trees over mean quantities, learned out of fold."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    history = TargetEncoder(target_type="continuous", cv=KFold(5, shuffle=True, random_state=0))
    trees = HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.15, min_samples_leaf=20, early_stopping=False, random_state=0
    )
    prepare = ColumnTransformer([("history", history, HISTORY), ("plain", "passthrough", PLAIN)])
    return Pipeline([("prepare", prepare), ("trees", trees)])


quantity = Model(
    name="quantity",
    owner=Owner("pricing", alerts=("mailto://pricing@example.com",)),
    source="order_lines",
    countries=shop.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(180),
    holdout=Days(30),
    gate=Gate(floor=1.15, max_refit_distance=0.8),
    cadence=Cadence(min_new_rows=100, max_age=Days(60)),
    columns=("invoice", "stock_code", "quantity", "invoice_date", "price", "customer_id"),
)
