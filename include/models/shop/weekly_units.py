"""The logarithm of one plus the units a product sells in a week, from the product and the eight weeks before."""

from datetime import UTC, datetime

from models.shop import shop
from models.shop._lines import once, sales
from perennial import Cadence, Days, Gate, Model, Owner

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
HISTORY_WEEKS = 8
LEVELS = ["product", "family"]
WEEKS = [
    "units_1", "units_2", "mean_4", "mean_8", "most_8", "lines_1", "lines_8",
    "weeks_sold", "weeks_since_first", "weeks_since_last", "log_price",
]  # fmt: skip


def examples(rows, as_of):
    """One row per week, the running one included, and product sold in the eight weeks before it; 0 where none is sold."""
    import numpy as np
    import pandas as pd

    lines, last = once(sales(rows)), (as_of - MONDAY) // Days(7)
    weeks = ((lines["invoice_date"] - MONDAY) // Days(7)).to_numpy()
    first = int(weeks.min(initial=last)) + 1  # rows may start within a week
    inside = (weeks >= first) & (weeks <= last)
    lines, weeks = lines[inside], weeks[inside] - first
    codes, products = pd.factorize(lines["stock_code"].str.upper(), sort=True)
    shape = (len(products), max(last - first + 1, HISTORY_WEEKS))
    values = (lines["quantity"], np.ones(len(lines)), np.log(lines["price"]))
    units, sold, log_prices = (weekly_sums(codes, weeks, value, shape) for value in values)
    history = weeks_before(units, sold, log_prices)
    asked = history["lines_8"] > 0
    product, week = np.nonzero(asked)
    monday = (pd.Timestamp(MONDAY) + pd.to_timedelta((week + first + HISTORY_WEEKS) * 7, unit="D")).as_unit("us")
    made = {
        "event_time": monday,
        "label_time": monday + Days(7),
        "target": np.log1p(units[:, HISTORY_WEEKS:][asked]),
        "stock_code": products[product],
        **{name: values[asked].astype(float) for name, values in history.items()},
    }
    return pd.DataFrame(made, index=pd.MultiIndex.from_arrays([products[product], monday], names=["product", "week"]))


def weekly_sums(codes, weeks, values, shape):
    """Sums of the lines' values by product and week, of a shape (products, weeks)."""
    import numpy as np

    return np.bincount(codes * shape[1] + weeks, weights=values, minlength=shape[0] * shape[1]).reshape(shape)


def weeks_before(units, sold, log_prices):
    """What the eight weeks before show, by product and week, for each week that has eight before it."""
    import numpy as np

    asked = units.shape[1] - HISTORY_WEEKS
    starts = range(HISTORY_WEEKS - 1, -1, -1)  # of one week before, of two, …
    units, sold, log_prices = (
        np.stack([sums[:, start : start + asked] for start in starts]) for sums in (units, sold, log_prices)
    )
    some, lines = sold > 0, sold.sum(axis=0)
    return {
        "units_1": units[0],
        "units_2": units[1],
        "mean_4": units[:4].mean(axis=0),
        "mean_8": units.mean(axis=0),
        "most_8": units.max(axis=0),
        "lines_1": sold[0],
        "lines_8": lines,
        "weeks_sold": some.sum(axis=0),
        "weeks_since_first": HISTORY_WEEKS - some[::-1].argmax(axis=0),
        "weeks_since_last": some.argmax(axis=0) + 1,
        "log_price": log_prices.sum(axis=0) / np.maximum(lines, 1),
    }


def features(examples):
    """The product, its family, and its weeks before."""
    return examples[WEEKS].assign(product=examples["stock_code"], family=examples["stock_code"].str[:3])


def estimator():
    """Boosted trees over each product's mean, learned out of fold: folds are stretches of weeks, as neighbours are alike."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    levels = TargetEncoder(target_type="continuous", cv=KFold(5))
    trees = HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, learning_rate=0.12, min_samples_leaf=50, early_stopping=False, random_state=0
    )
    prepare = ColumnTransformer([("levels", levels, LEVELS), ("weeks", "passthrough", WEEKS)])
    return Pipeline([("prepare", prepare), ("trees", trees)])


weekly_units = Model(
    name="weekly_units",
    owner=Owner("supply", alerts=("mailto://supply@example.com",)),
    source="order_lines",
    countries=shop.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(252),
    lookback=Days(7 * (HISTORY_WEEKS + 1)),
    holdout=Days(35),
    gate=Gate(floor=1.5, min_rows=3500, min_clusters=200, cluster="stock_code"),
    cadence=Cadence(min_new_rows=100, max_age=Days(60)),
    columns=("invoice", "stock_code", "quantity", "invoice_date", "price"),
)
