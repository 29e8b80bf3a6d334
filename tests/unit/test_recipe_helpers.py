"""A recipe's hash and text cover every helper that is called, of the fleet's package or of another, however it is called."""

import importlib

import pytest

from perennial.errors import SpecError
from perennial.recipe import recipe_of

COMMON = '''"""Helpers of all fleets."""

import math

FACTOR = 2.0


class Scales:
    """Scaling."""

    @classmethod
    def wide(cls, values):
        return values * FACTOR


def clean(values):
    return values * FACTOR * math.pi


def unused(values):
    return values
'''
MODEL = """from functools import partial

from perennial import Days, Gate, Model, Owner
from toy_models.zoo import zoo
IMPORT


def examples(rows, as_of):
    import pandas as pd

    return pd.DataFrame({"event_time": rows["seen_at"], "label_time": rows["seen_at"], "target": rows["weight"]})


def features(examples):
    return CALL


def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


weight = Model(
    name="weight", owner=Owner("keepers"), source="sightings", countries=zoo.countries, examples=examples,
    features=features, estimator=estimator, metric="rmse", window=Days(60), gate=Gate(floor=2.0),
)
"""
BY_NAME, AS_MODULE = "from toy_models.common import clean", "from toy_models import common"
CALLS = {
    "a function": (BY_NAME, 'clean(examples[["target"]])'),
    "an attribute": (AS_MODULE, 'common.clean(examples[["target"]])'),
    "an attribute of a renamed module": ("import toy_models.common as tools", 'tools.clean(examples[["target"]])'),
    "a constant": (AS_MODULE, 'examples[["target"]] * common.FACTOR'),
    "a class method": ("from toy_models.common import Scales", 'Scales.wide(examples[["target"]])'),
    "a partial": (f"{BY_NAME}\n\ncleaned = partial(clean)", 'cleaned(examples[["target"]])'),
    "a function that is an argument elsewhere": (BY_NAME, '(lambda clean: clean)(clean(examples[["target"]]))'),
    "a function that is a variable elsewhere": (BY_NAME, '[clean for clean in (clean(examples[["target"]]),)][0]'),
    "a function inside of a function": (BY_NAME, '(lambda: clean(examples[["target"]]))()'),
}


@pytest.fixture
def weight(new_tree):
    """Writes a model that calls a helper, and the helpers; returns the model and its tree."""

    def write(imported, called, common=COMMON):
        tree = new_tree()
        tree.write("models/__init__.py", "")
        tree.write("models/common.py", common)
        tree.model(MODEL.replace("IMPORT", imported).replace("CALL", called))
        return tree.weight(), tree

    return write


@pytest.mark.parametrize("how", CALLS)
def test_an_edit_of_a_helper_outside_of_the_fleet_is_another_recipe(weight, how):
    before, after = weight(*CALLS[how])[0], weight(*CALLS[how], COMMON.replace("FACTOR = 2.0", "FACTOR = 3.0"))[0]
    assert recipe_of(before).hash != recipe_of(after).hash


@pytest.mark.parametrize("how", CALLS)
def test_an_edit_of_what_is_not_called_is_the_same_recipe(weight, how):
    before, after = weight(*CALLS[how])[0], weight(*CALLS[how], COMMON.replace("unused(values)", "unused(value)"))[0]
    assert recipe_of(before).hash == recipe_of(after).hash


@pytest.mark.parametrize("how", CALLS)
def test_the_frozen_text_stands_alone_and_is_the_same_recipe(weight, how, make_rows):
    model, tree = weight(*CALLS[how])
    recipe, rows = recipe_of(model), make_rows(5)
    tree.write("models/zoo/_past/__init__.py", "")
    tree.write(f"models/zoo/_past/r_{recipe.hash[:16]}.py", recipe.source)
    past = importlib.import_module(f"{tree.models}.zoo._past.r_{recipe.hash[:16]}")
    assert tree.models not in recipe.source
    assert recipe_of(type(model)(**{**vars(model), **functions(past)})).hash == recipe.hash
    assert past.features(past.examples(rows, None)).equals(model.features(model.examples(rows, None)))


def functions(module):
    return {name: getattr(module, name) for name in ("examples", "features", "estimator")}


def test_what_is_used_of_a_module_in_several_places_is_one_namespace(weight):
    early = f"{AS_MODULE}\n\nTWICE = common.FACTOR * 2"
    recipe = recipe_of(weight(early, 'common.clean(examples[["target"]]) * TWICE')[0])
    namespace = {}
    exec(recipe.source, namespace)  # noqa: S102
    assert namespace["TWICE"] == 4.0
    assert recipe.source.count("SimpleNamespace(FACTOR=FACTOR, clean=clean)") == 1


@pytest.mark.parametrize(
    ("imported", "called", "what"),
    [
        ("from toy_models.common import clean as c", "c(examples)", "clean is imported as c"),
        (AS_MODULE, "vars(common)", "is used as common"),
        (AS_MODULE, "common.lost(examples)", "lost is not defined at the top level"),
        ("import toy_models.common", "toy_models.common.clean(examples)", "is imported as a module"),
        ("", "__import__('toy_models.common') and examples", None),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_fix(weight, imported, called, what):
    model, _ = weight(imported, called)
    if what is None:
        assert recipe_of(model).hash  # a name in a text is no import
        return
    with pytest.raises(SpecError, match=what) as refused:
        recipe_of(model)
    assert refused.value.faults[0].fix


def test_a_helper_that_is_imported_inside_of_a_body_is_refused(weight):
    body = '[examples := examples]\n    from toy_models.common import clean\n\n    return clean(examples[["target"]])'
    with pytest.raises(SpecError, match="inside its body"):
        recipe_of(weight("", body)[0])


def test_libraries_and_perennial_itself_are_imported_as_before(weight):
    recipe = recipe_of(weight("from numpy import log1p", 'log1p(examples[["target"]]) * Days(1).days')[0])
    assert "from numpy import log1p" in recipe.source
    assert "from perennial import Days" in recipe.source
