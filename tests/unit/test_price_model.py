"""The recipe of the shop's price model: which lines it learns from, and features that look at their own row only."""

import numpy as np
import pandas as pd
import pytest

from models.shop.price import estimator, examples, features, price

AS_OF = pd.Timestamp("2010-03-01", tz="UTC")
LINE = {
    "invoice": "489434",
    "stock_code": "85123a",
    "description": "White hanging HEART t-light",
    "quantity": 6,
    "price": 2.55,
    "customer_id": "13085.0",
}


def lines(*changes: dict[str, object]) -> pd.DataFrame:
    """One line a day from 1 January 2010, each the usual one with changes, indexed by line_id."""
    index = pd.RangeIndex(1, len(changes) + 1, name="line_id")
    rows = pd.DataFrame([{**LINE, **change} for change in changes], index=index)
    return rows.assign(invoice_date=pd.date_range("2010-01-01", periods=len(rows), freq="D", tz="UTC"))


def many_lines(number: int = 300) -> pd.DataFrame:
    """Lines of eight products with a price each, some of them without customer, description or cleanliness."""
    random = np.random.default_rng(0)
    products = random.integers(0, 8, number)
    made = [
        {
            "stock_code": f"{22000 + product}",
            "description": None if index % 17 == 0 else f"PRODUCT {'ABCDEFGH'[product]}",
            "quantity": int(random.integers(-1, 40)),
            "price": float(1 + product),
            "customer_id": None if index % 3 == 0 else "1.0",
        }
        for index, product in enumerate(products)
    ]
    return lines(*made)


def test_the_spec_has_no_faults():
    assert price.faults() == []


@pytest.mark.parametrize(
    "change",
    [{"invoice": "C489434"}, {"invoice": "A506401"}, {"quantity": 0}, {"quantity": -6}, {"price": 0.0}, {"price": -5.0},
     {"stock_code": "POST"}, {"stock_code": "M"}, {"stock_code": "DCGS0058"}],
)  # fmt: skip
def test_a_line_that_is_no_sale_of_a_product_is_no_example(change):
    assert list(examples(lines({}, change, {}), AS_OF).index) == [1, 3]


def test_an_example_keeps_its_line_id_and_predicts_the_log_price_at_the_invoice():
    made = examples(lines({}), AS_OF).loc[1]
    assert made["target"] == pytest.approx(np.log(2.55))
    assert made["event_time"] == made["label_time"] == pd.Timestamp("2010-01-01", tz="UTC")


def test_exact_duplicates_stay():
    assert len(examples(lines({}, {}, {}), AS_OF)) == 3


def test_no_line_makes_no_example():
    assert features(examples(lines({}, {}).head(0), AS_OF)).empty


def test_examples_reads_the_declared_columns_only():
    rows = many_lines()
    pd.testing.assert_frame_equal(examples(rows[list(price.columns)], AS_OF), examples(rows, AS_OF))


def test_features_say_what_was_bought_and_how():
    made = features(examples(lines({}), AS_OF)).loc[1]
    assert made[["code", "code_kind", "family", "last_word"]].tolist() == ["85123A", "85123A|known", "851", "LIGHT"]
    assert made["log_quantity"] == pytest.approx(np.log(6))
    assert made["has_customer"] == 1.0


def test_a_line_without_customer_and_description_has_features_too():
    made = features(examples(lines({"customer_id": None, "description": None}), AS_OF)).loc[1]
    assert made[["code_kind", "last_word", "has_customer"]].tolist() == ["85123A|unknown", "-", 0.0]


def test_features_work_row_by_row():
    made = examples(many_lines(60), AS_OF)
    one_by_one = pd.concat([features(made.iloc[[place]]) for place in range(len(made))])
    pd.testing.assert_frame_equal(one_by_one, features(made))


def test_deleting_rows_after_a_moment_changes_no_feature_before_it():
    rows = many_lines()
    moment = rows["invoice_date"].iloc[150]
    before = examples(rows[rows["invoice_date"] < moment], moment)
    later = examples(rows, rows["invoice_date"].max())
    pd.testing.assert_frame_equal(features(before), features(later[later["event_time"] < moment]))


def test_an_unseen_code_is_predicted_between_the_prices_seen():
    known = examples(many_lines(), AS_OF)
    fitted = estimator().fit(features(known), known["target"])
    unseen = examples(lines({"stock_code": "99999", "description": "NEW THING"}), AS_OF)
    (predicted,) = fitted.predict(features(unseen))
    assert known["target"].min() <= predicted <= known["target"].max()


def test_two_fits_of_the_same_rows_predict_the_same():
    known = examples(many_lines(), AS_OF)
    first, second = (estimator().fit(features(known), known["target"]).predict(features(known)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
