"""A recipe's hash: what changes it, what does not, and how its text stands alone."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from toy_models.zoo.weight import weight

from perennial import Cadence, Days, Gate, Owner
from perennial.errors import RecipeMissing, SpecError
from perennial.recipe import code_of, frozen_text, recipe_of

HELPERS = '''"""Helpers of the fleet."""

import math

FACTOR = 2.0


def scale(values):
    return values * FACTOR * math.pi


def unused(values):
    return values
'''
MODEL = '''from functools import partial

from perennial import Days, Gate, Model, Owner
from toy_models.zoo import zoo
from toy_models.zoo.helpers import scale

LEAST = 1.5


def is_heavy(rows):
    return rows["weight"] > LEAST


def examples(rows, as_of):
    """One row per sighting."""
    import pandas as pd

    known = rows[is_heavy(rows)]
    return pd.DataFrame({"event_time": known["seen_at"], "label_time": known["seen_at"], "target": known["weight"]})


def features(examples):
    return scale(examples[["length"]])


def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


weight = Model(
    name="weight", owner=Owner("keepers"), source="sightings", countries=zoo.countries, examples=examples,
    features=features, estimator=estimator, metric="rmse", window=Days(60), gate=Gate(floor=2.0),
)
'''


@pytest.fixture
def written(new_tree):
    """Writes a model and its helpers into a tree of their own; returns the tree."""

    def write(model=MODEL, helpers=HELPERS):
        tree = new_tree()
        tree.write("models/zoo/helpers.py", helpers)
        tree.model(model)
        return tree

    return write


@pytest.fixture
def hash_of(written):
    """The recipe's hash after an edit of the model's or the helpers' file."""

    def edited(old="", new="", *, helpers=("", "")):
        assert old in MODEL
        assert helpers[0] in HELPERS
        return recipe_of(written(MODEL.replace(old, new), HELPERS.replace(*helpers)).weight()).hash

    return edited


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return Ridge", "    # a comment\n    return Ridge"),
        ('    """One row per sighting."""\n', ""),
        ('rows["weight"] > LEAST', "(\n        rows['weight']\n        > LEAST\n    )"),
        ("gate=Gate(floor=2.0)", "gate=Gate(floor=9.0, margin=0.2)"),
        ('owner=Owner("keepers")', 'owner=Owner("somebody else")'),
        ("from functools import partial\n", ""),
    ],
)
def test_what_does_not_change_the_fit_does_not_change_the_hash(hash_of, old, new):
    assert hash_of(old, new) == hash_of()


def test_an_unused_function_of_the_fleet_does_not_change_the_hash(hash_of):
    assert hash_of(helpers=("def unused(values):\n    return values", "")) == hash_of()


def test_gate_owner_cadence_and_window_do_not_change_the_hash():
    other = replace(weight, gate=Gate(floor=1), owner=Owner("x"), cadence=Cadence(min_new_rows=1), window=Days(9), seed=5)
    assert recipe_of(other).hash == recipe_of(weight).hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('known["weight"]}', 'known["weight"] * 2}'),
        ('[["length"]]', '[["length", "event_time"]]'),
        ("LEAST = 1.5", "LEAST = 1.6"),
        ('rows["weight"] > LEAST', 'rows["weight"] >= LEAST'),
        ("alpha=1.0", "alpha=1.1"),
        ("alpha=1.0", "alpha=1.0, solver='svd'"),
    ],
)
def test_what_changes_the_fit_changes_the_hash(hash_of, old, new):
    assert hash_of(old, new) != hash_of()


@pytest.mark.parametrize("change", [("FACTOR = 2.0", "FACTOR = 3.0"), ("values * FACTOR", "values + FACTOR")])
def test_code_and_constants_of_a_called_fleet_helper_change_the_hash(hash_of, change):
    assert hash_of(helpers=change) != hash_of()


def test_an_estimator_parameter_that_comes_from_elsewhere_changes_the_hash(monkeypatch):
    from sklearn.linear_model import Ridge

    before = recipe_of(weight)
    monkeypatch.setattr(Ridge.__init__, "__kwdefaults__", {**Ridge.__init__.__kwdefaults__, "tol": 0.5})
    recipe_of.cache_clear()  # as in another process
    assert recipe_of(weight).hash != before.hash
    assert recipe_of(weight).parameters["tol"] == "0.5"
    recipe_of.cache_clear()


def test_a_parameter_with_a_memory_address_does_not_change_the_hash(hash_of):
    step = "from sklearn.preprocessing import FunctionTransformer\n\n    return FunctionTransformer(func=lambda values: values)"
    change = ("from sklearn.linear_model import Ridge\n\n    return Ridge(alpha=1.0)", step)
    assert hash_of(*change) == hash_of(*change)


OF_A_SET = """WORDS = {"gull", "heron", "stork", "crane", "egret"}


def estimator():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(stop_words=%s), Ridge())"""
PLAIN = MODEL[MODEL.index("def estimator") : MODEL.index("\n\n\nweight = Model")]


def hash_by_seed(tree, seed):
    code = f"from {tree.models}.zoo.weight import weight; from perennial.recipe import recipe_of; print(recipe_of(weight).hash)"
    path = os.pathsep.join([str(tree.folder), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)


@pytest.mark.parametrize("words", ["WORDS", "frozenset(WORDS)", "[('a', WORDS)]", "{'a': frozenset({frozenset(WORDS)})}"])
def test_a_hash_is_the_same_in_every_process_where_parameters_hold_sets(written, words):
    tree = written(MODEL.replace(PLAIN, OF_A_SET % words))
    assert hash_by_seed(tree, "1") == hash_by_seed(tree, "2")


def test_a_frozen_recipe_is_found_where_its_parameters_are_others_today(written, monkeypatch):
    tree = written()
    recipe = recipe_of(tree.weight())
    tree.write("models/zoo/_past/__init__.py", "")
    tree.write(f"models/zoo/_past/r_{recipe.hash[:16]}.py", frozen_text(tree.weight(), recipe.source, recipe.parameters))
    from sklearn.linear_model import Ridge

    monkeypatch.setattr(Ridge.__init__, "__kwdefaults__", {**Ridge.__init__.__kwdefaults__, "tol": 0.5})
    recipe_of.cache_clear()  # as in another process
    assert recipe_of(tree.weight()).hash != recipe.hash
    assert "_past" in code_of(tree.weight(), recipe.hash).features.__module__
    recipe_of.cache_clear()


def test_a_library_that_shows_other_parameters_makes_no_other_code(written, monkeypatch):
    tree = written()
    recipe = recipe_of(tree.weight())
    from sklearn.linear_model import Ridge

    monkeypatch.setattr(Ridge.__init__, "__kwdefaults__", {**Ridge.__init__.__kwdefaults__, "tol": 0.5})
    recipe_of.cache_clear()  # as in another process
    with pytest.raises(RecipeMissing):
        code_of(tree.weight(), recipe.hash)
    assert code_of(tree.weight(), recipe.hash, recipe.parameters).features is tree.weight().features
    with pytest.raises(RecipeMissing):
        code_of(tree.weight(), recipe.hash, {**recipe.parameters, "alpha": "7"})
    recipe_of.cache_clear()


def test_the_recorded_text_is_a_module_with_the_same_hash(written):
    tree = written()
    recipe = recipe_of(tree.weight())
    tree.write("models/zoo/_past/__init__.py", "")
    tree.write(f"models/zoo/_past/r_{recipe.hash[:16]}.py", recipe.source)
    tree.write("models/zoo/edited.py", MODEL.replace("LEAST = 1.5", "LEAST = 7"))
    edited = importlib.import_module(f"{tree.models}.zoo.edited").weight
    assert recipe_of(edited).hash != recipe.hash
    assert code_of(edited, recipe.hash).examples.__module__.endswith(f"_past.r_{recipe.hash[:16]}")


def test_frozen_code_works_without_the_files_it_came_from(written, make_rows):
    tree = written()
    recipe, rows = recipe_of(tree.weight()), make_rows(50)
    namespace = {}
    exec(recipe.source, namespace)  # noqa: S102
    assert "zoo" not in recipe.source
    made, today = namespace["examples"](rows, None), tree.weight().examples(rows, None)
    assert made.equals(today)


def test_frozen_code_defines_what_a_definition_needs_before_it(written):
    changed = MODEL.replace("LEAST = 1.5", "HALF = 0.5\nLEAST = 1 + HALF").replace(
        "is_heavy(rows):", "is_heavy(rows, least=LEAST):"
    )
    recipe = recipe_of(written(changed).weight())
    namespace = {}
    exec(recipe.source, namespace)  # noqa: S102
    assert namespace["LEAST"] == 1.5


def test_the_hash_of_today_gives_the_code_of_today():
    code = code_of(weight, recipe_of(weight).hash)
    assert (code.examples, code.features) == (weight.examples, weight.features)


def test_an_edited_frozen_file_is_refused(written):
    tree = written()
    recipe = recipe_of(tree.weight())
    tree.write("models/zoo/_past/__init__.py", "")
    tree.write(f"models/zoo/_past/r_{recipe.hash[:16]}.py", recipe.source.replace("1.5", "1.6"))
    tree.model(MODEL.replace("LEAST = 1.5", "LEAST = 7"), "edited")
    edited = importlib.import_module(f"{tree.models}.zoo.edited").weight
    with pytest.raises(RecipeMissing, match="was edited"):
        code_of(edited, recipe.hash)


def test_a_missing_recipe_names_the_model_and_make_freeze():
    with pytest.raises(RecipeMissing, match=r"weight was edited .* toy_models/zoo/_past/r_0{16}.py.* `make freeze`"):
        code_of(weight, "0" * 64)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("import scale\n", "import scale as s\n\nscale = s\n", "scale is imported as s"),
        ("from toy_models.zoo.helpers import scale", "import toy_models.zoo.helpers as scale", "a module or relatively"),
        (
            "from toy_models.zoo.helpers import scale",
            "from toy_models.zoo import helpers as scale",
            "helpers is imported as scale",
        ),
        ("from toy_models.zoo.helpers import scale", "from toy_models import zoo as scale", "a module or relatively"),
        ("from toy_models.zoo.helpers import scale", "from .helpers import scale", "a module or relatively"),
        ("    return scale(", "    from toy_models.zoo.helpers import scale\n\n    return scale(", "inside its body"),
        ("    return scale(", "    import toy_models.zoo.helpers\n\n    return scale(", "inside its body"),
        ("    return scale(", "    from .helpers import scale\n\n    return scale(", "inside its body"),
        ("features=features", "features=scale", "features=scale"),
        ("LEAST = 1.5", "LEAST, MOST = 1.5, 2.5", "LEAST is not defined by a plain statement"),
        ("LEAST = 1.5", "if True:\n    LEAST = 1.5", "LEAST is not defined by a plain statement"),
        ("LEAST = 1.5", "FACTOR = 5.0\nLEAST = FACTOR", "two different things are called FACTOR"),
    ],
)
def test_a_recipe_that_cannot_stand_alone_is_refused(written, old, new, what):
    assert old in MODEL
    with pytest.raises(SpecError, match=what) as refused:
        recipe_of(written(MODEL.replace(old, new)).weight())
    assert "weight.py:" in refused.value.faults[0].where
    assert refused.value.faults[0].fix
