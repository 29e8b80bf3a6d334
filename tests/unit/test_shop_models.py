"""What holds for every model of the shop: sound examples, features of the past only, a fit that can be repeated and kept."""

import runpy

import numpy as np
import pandas as pd
import pytest
from shop import START, a_shop, lines

from models.shop.order_value import order_value
from models.shop.price import price
from models.shop.quantity import quantity
from models.shop.returned import returned
from models.shop.weekly_units import weekly_units
from perennial.core.artifacts import decode_estimator, encode_estimator
from perennial.core.examples import checked_features, matured_examples
from perennial.core.metrics import METRICS, predict
from perennial.recipe import recipe_of

MODELS = (price, quantity, order_value, returned, weekly_units)
ROWS = a_shop()
AS_OF = ROWS["invoice_date"].max()
MOMENTS = (START + pd.Timedelta(days=130, hours=10), START + pd.Timedelta(days=150), START + pd.Timedelta(days=189, hours=17))

pytestmark = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def examples_of(model, rows=ROWS, as_of=AS_OF):
    return matured_examples(model.examples, rows, as_of, model.name)


def fitted(model):
    made = examples_of(model)
    return model.estimator().fit(model.features(made), made["target"])


def test_its_spec_has_no_faults(model):
    assert model.faults() == []


def test_its_examples_are_sound_and_not_empty(model):
    made = examples_of(model)
    assert len(made) > 100
    assert made["target"].notna().all()
    assert len(checked_features(model.features, made, model.name)) == len(made)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_hardly_a_row_makes_hardly_an_example(model, number):
    made = examples_of(model, ROWS.head(number))
    assert len(made) <= number
    assert len(checked_features(model.features, made, model.name)) == len(made)


def test_a_country_without_a_sale_has_no_example(model):
    assert examples_of(model, lines({"stock_code": "POST"}, {"invoice": "C489434", "quantity": -1})).empty


def test_its_examples_need_the_declared_columns_only(model):
    pd.testing.assert_frame_equal(examples_of(model, ROWS[list(model.columns)]), examples_of(model))


def test_its_features_are_of_one_row_each(model):
    made = examples_of(model).tail(40)
    one_by_one = pd.concat([model.features(made.iloc[[place]]) for place in range(len(made))])
    pd.testing.assert_frame_equal(one_by_one, model.features(made))


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_deleting_rows_after_a_moment_changes_no_feature_and_no_known_label_before_it(model, moment):
    now, then = model.examples(ROWS, AS_OF), model.examples(ROWS[ROWS["invoice_date"] < moment], moment)
    now, then = now[now["event_time"] < moment], then[then["event_time"] < moment]
    pd.testing.assert_frame_equal(model.features(now).sort_index(), model.features(then).sort_index(), check_exact=True)
    known = [made.loc[made["label_time"] < moment, "target"].sort_index() for made in (now, then)]
    pd.testing.assert_series_equal(*known)


def test_two_fits_of_the_same_rows_predict_the_same(model):
    features = model.features(examples_of(model))
    first, second = (predict(fitted(model), features, METRICS[model.metric]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_kept_fit_loads_with_the_trusted_types_and_predicts_the_same(model):
    features = model.features(examples_of(model))
    before = fitted(model)
    after = decode_estimator(encode_estimator(before), model.trusted)
    np.testing.assert_array_equal(*(predict(fit, features, METRICS[model.metric]) for fit in (before, after)))


def test_its_recipe_stands_alone_as_frozen_text(model, tmp_path):
    frozen = tmp_path / "frozen.py"
    frozen.write_text(recipe_of(model).source)
    code = runpy.run_path(str(frozen))
    pd.testing.assert_frame_equal(code["features"](code["examples"](ROWS, AS_OF)), model.features(model.examples(ROWS, AS_OF)))
