"""Whether an invoice line comes back: a cancellation of the same customer and product within 60 days, known only then."""

from models.shop import shop
from models.shop._lines import once, past, sales
from perennial import Cadence, Days, Gate, Model, Owner

RETURN_DAYS = 60
HISTORY_DAYS = 60
EVENT = {"customer_id": "key", "invoice_date": "moment"}
RATES = ["code"]
PLAIN = [
    "log_quantity", "log_price", "log_invoice_value", "invoice_lines", "hour",
    "lines_before", "mean_log_value_before", "returns_before", "days_since_line", "days_since_return",
]  # fmt: skip


def examples(rows, as_of):
    """One row per clean line with a customer, and what the customer bought and brought back in the 60 days before."""
    import numpy as np
    import pandas as pd

    known = rows[rows["customer_id"].notna()]
    lines, returns = once(sales(known)), known[known["invoice"].str.startswith("C") & (known["quantity"] < 0)]
    value = lines["quantity"] * lines["price"]
    invoice = value.groupby([lines["invoice"], lines["invoice_date"]])
    made = pd.DataFrame(
        {
            "event_time": lines["invoice_date"],
            "label_time": lines["invoice_date"] + Days(RETURN_DAYS),
            "target": came_back(lines, returns).astype(float),
            "stock_code": lines["stock_code"],
            "quantity": lines["quantity"],
            "price": lines["price"],
            "invoice_value": invoice.transform("sum"),
            "invoice_lines": invoice.transform("size"),
        }
    )
    bought, brought_back = (happened.rename(columns=EVENT) for happened in (lines.assign(value=np.log(value)), returns))
    purchases = past(bought, bought, Days(HISTORY_DAYS)).add_prefix("bought_")
    cancellations = past(bought, brought_back.assign(value=0.0), Days(HISTORY_DAYS)).add_prefix("returned_")
    return pd.concat([made, purchases, cancellations], axis=1)


def came_back(lines, returns):
    """Which lines their customer cancels within 60 days."""
    import pandas as pd

    pair = ["customer_id", "stock_code"]
    asked = lines[[*pair, "invoice_date"]].sort_values("invoice_date", kind="stable")
    events = returns[[*pair, "invoice_date"]].sort_values("invoice_date", kind="stable")
    found = pd.merge_asof(
        asked, events.assign(found=1.0), on="invoice_date", by=pair, direction="forward", allow_exact_matches=False,
        tolerance=Days(RETURN_DAYS),
    )  # fmt: skip
    return pd.Series(found["found"].notna().to_numpy(), index=asked.index).reindex(lines.index)


def features(examples):
    """The product, the line and its order, and what the customer did before."""
    import numpy as np
    import pandas as pd

    return pd.DataFrame(
        {
            "code": examples["stock_code"].str.upper(),
            "log_quantity": np.log(examples["quantity"].astype(float)),
            "log_price": np.log(examples["price"]),
            "log_invoice_value": np.log(examples["invoice_value"]),
            "invoice_lines": examples["invoice_lines"].astype(float),
            "hour": examples["event_time"].dt.hour.astype(float),
            "lines_before": examples["bought_number"],
            "mean_log_value_before": examples["bought_mean"].fillna(0.0),
            "returns_before": examples["returned_number"],
            "days_since_line": examples["bought_days_since"].fillna(HISTORY_DAYS + 1),
            "days_since_return": examples["returned_days_since"].fillna(HISTORY_DAYS + 1),
        },
        index=examples.index,
    )


def estimator():
    """Boosted trees over each product's rate of return, learned out of fold."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    rates = TargetEncoder(target_type="binary", cv=KFold(5, shuffle=True, random_state=0))
    trees = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, early_stopping=False, random_state=0
    )
    prepare = ColumnTransformer([("rates", rates, RATES), ("plain", "passthrough", PLAIN)])
    return Pipeline([("prepare", prepare), ("trees", trees)])


returned = Model(
    name="returned",
    owner=Owner("orders", alerts=("mailto://orders@example.com",)),
    source="order_lines",
    countries=shop.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="log_loss",
    window=Days(240),
    lookback=Days(RETURN_DAYS + HISTORY_DAYS),
    holdout=Days(45),
    gate=Gate(floor=0.15, margin=0.02, min_rows=1000, min_clusters=20, min_train_rows=2000),
    cadence=Cadence(min_new_rows=500, max_age=Days(60)),
    columns=("invoice", "stock_code", "quantity", "invoice_date", "price", "customer_id"),
)
