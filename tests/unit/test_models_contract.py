"""What holds for every model of every fleet: sound examples, features of the past only, a fit that can be repeated and kept."""

import runpy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from airports import START as NEW_YEAR
from airports import an_airport
from rides import a_country, day, rows_of
from shop import START, a_shop

from perennial.catalog import load_catalog
from perennial.core.artifacts import decode_estimator, encode_estimator
from perennial.core.examples import checked_features, matured_examples
from perennial.core.metrics import METRICS, predict
from perennial.recipe import recipe_of
from perennial.shell.frames import typed_frame
from perennial.shell.lake import schema_of
from perennial.spec import Model


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows that a fleet's models are tried on, and moments within them."""

    rows: pd.DataFrame
    event_time: str
    moments: tuple[pd.Timestamp, ...]

    @property
    def as_of(self) -> pd.Timestamp:
        return self.rows[self.event_time].max()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and the data of its fleet."""

    model: Model
    data: Data


MORNING, MIDNIGHT, EVENING = (pd.Timedelta(days=130, hours=10), pd.Timedelta(days=150), pd.Timedelta(days=189, hours=17))
DATA = {
    "shop": Data(
        rows=a_shop(), event_time="invoice_date", moments=tuple(START + after for after in (MORNING, MIDNIGHT, EVENING))
    ),
    "flights": Data(
        rows=an_airport(), event_time="scheduled_at", moments=tuple(NEW_YEAR + after for after in (MORNING, MIDNIGHT, EVENING))
    ),
    "ride_hailing": Data(
        rows=rows_of(a_country(), day(0), day(100)),
        event_time="requested_at",
        moments=tuple(pd.Timestamp(day(number)) for number in (55.4, 70, 98.7)),
    ),
}
WITHOUT_ROWS = pytest.mark.skip(reason="Its fleet has no rows to be tried on. Add some to DATA.")


def cases():
    """Every model of every fleet; one of a fleet without data is skipped."""
    for name, specs in load_catalog().fleets.items():
        for model in specs.models.values():
            if name in DATA:
                yield pytest.param(Case(model=model, data=DATA[name]), id=model.name)
            else:
                yield pytest.param(None, id=model.name, marks=WITHOUT_ROWS)


pytestmark = pytest.mark.parametrize("case", cases())


def examples_of(case, rows=None, as_of=None):
    rows = case.data.rows if rows is None else rows
    return matured_examples(case.model.examples, rows, as_of or case.data.as_of, case.model.name)


def fitted(case):
    made = examples_of(case)
    return case.model.estimator().fit(case.model.features(made), made["target"])


def test_its_spec_has_no_faults(case):
    assert case.model.faults() == []


def test_its_examples_are_sound_and_not_empty(case):
    made = examples_of(case)
    assert len(made) > 100
    assert made["target"].notna().all()
    assert len(checked_features(case.model.features, made, case.model.name)) == len(made)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_hardly_a_row_makes_hardly_an_example(case, number):
    rows = case.data.rows.head(number)
    made = examples_of(case, rows, rows[case.data.event_time].max() if number else None)
    assert len(made) <= number
    assert len(checked_features(case.model.features, made, case.model.name)) == len(made)


def test_a_lake_without_rows_makes_no_example(case):
    source = load_catalog().sources[case.model.source]
    columns = {column.name: column for column in source.columns}
    rows = typed_frame(schema_of(source).empty_table(), columns).set_index([*source.key])
    made = examples_of(case, rows, case.data.as_of)
    assert checked_features(case.model.features, made, case.model.name).empty


def test_its_examples_need_the_declared_columns_only(case):
    pd.testing.assert_frame_equal(examples_of(case, case.data.rows[list(case.model.columns)]), examples_of(case))


def test_its_features_are_of_one_row_each(case):
    made = examples_of(case).tail(40)
    one_by_one = pd.concat([case.model.features(made.iloc[[place]]) for place in range(len(made))])
    pd.testing.assert_frame_equal(one_by_one, case.model.features(made))


@pytest.mark.parametrize("place", range(3))
def test_deleting_rows_after_a_moment_changes_no_feature_and_no_known_label_before_it(case, place):
    rows, moment = case.data.rows, case.data.moments[place]
    before = rows[rows[case.data.event_time] < moment]
    now, then = case.model.examples(rows, case.data.as_of), case.model.examples(before, moment)
    now, then = now[now["event_time"] < moment], then[then["event_time"] < moment]
    features = [case.model.features(made).sort_index() for made in (now, then)]
    pd.testing.assert_frame_equal(*features, check_exact=True)
    known = [made.loc[made["label_time"] < moment, "target"].sort_index() for made in (now, then)]
    pd.testing.assert_series_equal(*known)


def test_two_fits_of_the_same_rows_predict_the_same(case):
    features = case.model.features(examples_of(case))
    first, second = (predict(fitted(case), features, METRICS[case.model.metric], case.model.name) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_kept_fit_loads_with_the_trusted_types_and_predicts_the_same(case):
    features = case.model.features(examples_of(case))
    before = fitted(case)
    after = decode_estimator(encode_estimator(before), case.model.trusted)
    metric, name = METRICS[case.model.metric], case.model.name
    np.testing.assert_array_equal(*(predict(fit, features, metric, name) for fit in (before, after)))


def test_its_recipe_stands_alone_as_frozen_text(case, tmp_path):
    model, rows, as_of = case.model, case.data.rows, case.data.as_of
    frozen = tmp_path / "frozen.py"
    frozen.write_text(recipe_of(model).source)
    code = runpy.run_path(str(frozen))
    pd.testing.assert_frame_equal(code["features"](code["examples"](rows, as_of)), model.features(model.examples(rows, as_of)))
