"""The logarithm of an invoice line's unit price, from the history of its product."""

from models.shop import shop
from models.shop._lines import sales
from perennial import Cadence, Days, Gate, Model, Owner

HISTORY = ["code", "code_kind", "family", "last_word"]
PLAIN = ["log_quantity", "has_customer"]


def examples(rows, as_of):
    """One row per clean line."""
    import numpy as np
    import pandas as pd

    lines = sales(rows)
    return pd.DataFrame(
        {
            "event_time": lines["invoice_date"],
            "label_time": lines["invoice_date"],
            "target": np.log(lines["price"]),
            "stock_code": lines["stock_code"],
            "description": lines["description"],
            "quantity": lines["quantity"],
            "customer_id": lines["customer_id"],
        }
    )


def features(examples):
    """The product by code, family and last word of its description, and how it was bought."""
    import numpy as np
    import pandas as pd

    code = examples["stock_code"].str.upper()
    has_customer = examples["customer_id"].notna()
    words = examples["description"].fillna("").str.upper().str.extract(r"([A-Z]+)[^A-Z]*$", expand=False)
    return pd.DataFrame(
        {
            "code": code,
            "code_kind": code + np.where(has_customer, "|known", "|unknown"),
            "family": code.str[:3],
            "last_word": words.fillna("-"),
            "log_quantity": np.log(examples["quantity"].astype(float)),
            "has_customer": has_customer.astype(float),
        },
        index=examples.index,
    )


def estimator():
    """Boosted trees over each product's mean price, learned out of fold."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    history = TargetEncoder(target_type="continuous", cv=KFold(5, shuffle=True, random_state=0))
    trees = HistGradientBoostingRegressor(max_iter=150, min_samples_leaf=20, early_stopping=False, random_state=0)
    prepare = ColumnTransformer([("history", history, HISTORY), ("plain", "passthrough", PLAIN)])
    return Pipeline([("prepare", prepare), ("trees", trees)])


price = Model(
    name="price",
    owner=Owner("pricing", alerts=("mailto://pricing@example.com",), tier=1),
    source="order_lines",
    countries=shop.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(180),
    holdout=Days(30),
    gate=Gate(floor=0.6, margin=0.01, confidence=0.95, max_refit_distance=0.8),
    cadence=Cadence(min_new_rows=100, max_age=Days(60)),
    columns=("invoice", "stock_code", "description", "quantity", "invoice_date", "price", "customer_id"),
)
