"""Small fits: before there is a row, each recipe is fitted, stored and read back, and what is missing is named."""

from datetime import UTC, datetime, timedelta

import pytest
from trees import MODEL

from perennial import Column, Owner, Source
from perennial.catalog import load_catalog
from perennial.core.made_up import made_up_rows
from perennial.steps import small_fits as step
from perennial.steps.small_fits import small_fit, small_fits

ESTIMATOR = MODEL[MODEL.index("def estimator") : MODEL.index("\n\n\nweight = Model")]
EXAMPLES = MODEL[MODEL.index("def examples") : MODEL.index("def features")]
PICKING = """def estimator():
    from operator import itemgetter

    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(itemgetter(["length"])), Ridge())"""
UNTIL = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def fit_of(tree):
    """The small fit of the toy model with other parts."""

    def made(*changes):
        text = MODEL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        tree.model(text)
        return small_fit(tree.weight(), tree.catalog().source("sightings"))

    return made


def test_a_recipe_of_known_types_passes(fit_of):
    made = fit_of()
    assert (made.refusal, made.unseen) == ("", "")


def test_a_type_that_only_a_fit_shows_is_named_with_the_line_to_write(fit_of, tree):
    learning = ESTIMATOR.replace("    return Ridge(alpha=1.0)", "    return Learning()")
    made = fit_of((ESTIMATOR, f"{LEARNING}\n\n\n{learning}"), ("from toy_models.zoo import zoo", IMPORT))
    own = f"{tree.models}.zoo.weight"
    assert f"types that are not trusted: {own}.Learned, {own}.Learning. " in made.refusal
    assert f'In {tree.weight().where} that is trusted=("{own}.Learned", "{own}.Learning",).' in made.refusal


IMPORT = "from sklearn.linear_model import Ridge\n\nfrom toy_models.zoo import zoo"
LEARNING = """class Learned:
    pass


class Learning(Ridge):
    def fit(self, features, target):
        self.learned_ = Learned()
        return super().fit(features, target)"""


def test_a_type_beyond_the_list_is_named_until_the_spec_trusts_it(fit_of):
    assert 'trusted=("operator.itemgetter",)' in fit_of((ESTIMATOR, PICKING)).refusal


def test_the_line_that_was_named_is_the_one_that_helps(fit_of):
    trusting = 'metric="rmse", trusted=("operator.itemgetter",),'
    assert fit_of((ESTIMATOR, PICKING), ('metric="rmse",', trusting)).refusal == ""


def test_a_lambda_is_named_with_what_to_write_instead(fit_of):
    nameless = PICKING.replace('itemgetter(["length"])', "lambda rows: rows")
    made = fit_of((ESTIMATOR, nameless))
    assert "<lambda> cannot be: it has no name that it could be looked up by; write a function" in made.refusal
    assert "that is trusted=" not in made.refusal


def test_an_estimator_that_skops_does_not_store_is_named(fit_of):
    birch = PICKING.replace("Ridge()", "Birch()").replace("linear_model import Ridge", "cluster import Birch")
    assert "cannot be stored: UnsupportedTypeException: Objects of type Birch" in fit_of((ESTIMATOR, birch)).refusal


def test_a_recipe_that_makes_no_example_of_made_up_rows_is_fitted_on_made_up_features(fit_of):
    picky = EXAMPLES.replace("    return", '    rows = rows[rows["country"] == "Atlantis"]\n    return', 1)
    made = fit_of((EXAMPLES, picky), (ESTIMATOR, PICKING))
    assert ("operator.itemgetter" in made.refusal, made.unseen) == (True, "")


def test_a_recipe_that_fails_on_made_up_rows_is_looked_at_as_it_is_before_a_fit(fit_of):
    failing = EXAMPLES.replace("    return", '    raise KeyError("no such bird")\n    return', 1)
    made = fit_of((EXAMPLES, failing), (ESTIMATOR, PICKING))
    assert "operator.itemgetter" in made.refusal
    assert "no such bird" in made.unseen


HARMS = {
    "os.kill(os.getpid(), 9)": "its process was ended by SIGKILL",
    "time.sleep(60)": "it took more than 10 s",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_recipe_that_ends_or_holds_up_its_process_does_so_to_itself(tree, monkeypatch, harm):
    monkeypatch.setattr(step, "SECONDS", 10.0)
    harmful = EXAMPLES.replace("    return", f"    {harm}\n    return", 1)
    tree.model(MODEL.replace(EXAMPLES, harmful).replace("from toy_models", "import os\nimport time\n\nfrom toy_models", 1))
    tree.model(
        MODEL.replace("weight = Model(", "mass = Model(").replace('name="weight"', 'name="mass"'),
        "mass",
    )
    specs, source = tree.catalog().fleets["zoo"].models, tree.catalog().source("sightings")
    made = small_fits([(specs["weight"], source), (specs["mass"], source)])
    assert [each.unseen for each in made] == [HARMS[harm], ""]


COLUMNS = (
    Column("id", "int64", nullable=False),
    Column("changed_at", "timestamp", nullable=False),
    Column("seen_at", "timestamp", nullable=False),
    Column("country", "string", value_set=("Britain", "France")),
    Column("code", "string", regex=r"^[A-Z]\d{5}$"),
    Column("cents", "int64", min_value=1000, max_value=1005),
    Column("depth", "float64", max_value=-100),
    Column("flag", "int64"),
    Column("gone", "bool"),
)


def source_of(**changes):
    given = {
        "name": "s", "owner": Owner("o"), "connection": "c", "table": "t", "key": ("id",), "event_time": "seen_at",
        "changed_at": "changed_at", "country": "country", "countries": {"Britain": "GB", "France": "FR"}, "columns": COLUMNS,
    }  # fmt: skip
    return Source(**{**given, **changes})


def test_made_up_rows_are_of_the_spec_and_always_the_same():
    span = timedelta(days=30)
    made = made_up_rows(source_of(deleted="gone"), 200, UNTIL, span, "FR")
    assert made == made_up_rows(source_of(deleted="gone"), 200, UNTIL, span, "FR")
    assert set(made) == {column.name for column in COLUMNS}
    assert len(set(made["id"])) == 200
    assert UNTIL - span <= min(made["seen_at"]) < max(made["seen_at"]) <= UNTIL
    assert set(made["country"]) == {"France"}
    assert {len(code) for code in made["code"]} == {6}
    assert 1000 <= min(made["cents"]) <= max(made["cents"]) <= 1005
    assert max(made["depth"]) <= -100
    assert {0, 1} < set(made["flag"])
    assert set(made["gone"]) == {False}


def test_every_source_of_the_tree_has_made_up_rows():
    for source in load_catalog().sources.values():
        made = made_up_rows(source, 50, UNTIL, timedelta(days=10), next(iter(source.countries.values())))
        assert {len(values) for values in made.values()} == {50}


def test_each_model_of_the_tree_is_fitted_on_made_up_rows():
    catalog = load_catalog()
    asked = [(model, catalog.sources[model.source]) for specs in catalog.fleets.values() for model in specs.models.values()]
    made = {model.name: found for (model, _), found in zip(asked, small_fits(asked), strict=True)}
    assert {name: found for name, found in made.items() if found.refusal or found.unseen} == {}
