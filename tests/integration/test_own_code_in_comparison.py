"""The champion is compared by its own code: an edit of a function that its artifact names does not change its score."""

import importlib
import itertools
import sys
from pathlib import Path

import pandas as pd
import pytest
import sklearn
from toolbox import GB, champion, cycle, reader

from perennial.catalog import load_catalog
from perennial.recipe import recipe_of
from perennial.steps import rebuild

NUMBERS = itertools.count()
TOYS = Path(__file__).parents[1] / "specs/toy_models/zoo"
ESTIMATOR = """def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)"""
OWN_ESTIMATOR = """def shifted(values):
    return values + 1


def estimator():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(shifted), Ridge(alpha=1.0))"""


class Tree:
    """A fleet of one model in a package of its own."""

    def __init__(self, folder: Path) -> None:
        self.package = f"own_models_{next(NUMBERS)}"
        self.zoo = folder / self.package / "zoo"
        (self.zoo / "_past").mkdir(parents=True)
        (self.zoo / "__init__.py").write_text((TOYS / "__init__.py").read_text())
        (self.zoo / "_past/__init__.py").touch()

    def deploy(self, old: str = "", new: str = ""):
        """Deploy the model with a piece of its code edited; the catalog."""
        text = (TOYS / "weight.py").read_text().replace(ESTIMATOR, OWN_ESTIMATOR).replace(old or "~", new)
        trusted = f'metric="rmse", trusted=("{self.package}.zoo.weight.shifted",),'
        (self.zoo / "weight.py").write_text(text.replace("toy_models", self.package).replace('metric="rmse",', trusted))
        for name in [name for name in sys.modules if name.startswith(self.package)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return load_catalog(self.package, "toy_sources")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Tree(tmp_path)


def test_an_edited_function_does_not_change_the_champions_score(zoo, tree):
    zoo.catalog = tree.deploy()
    assert cycle(zoo).state == "published"
    recipe = recipe_of(zoo.catalog.fleets["zoo"].models["weight"])
    (tree.zoo / f"_past/r_{recipe.hash[:16]}.py").write_text(recipe.source)
    zoo.catalog = tree.deploy("values + 1", "values + 1000")
    outcome = cycle(zoo, range(60, 90))
    scores = champion(zoo).metrics
    assert (outcome.state, champion(zoo).recipe != recipe.hash) == ("published", True)
    assert scores["champion"] == pytest.approx(0.5, abs=0.1)
    assert abs(scores["gain"]) < 0.05


def test_a_champion_whose_code_was_edited_is_rebuilt_by_its_own(zoo, tree, monkeypatch):
    """Another scikit-learn is pretended, and that it cannot be read."""
    with monkeypatch.context() as pretended:
        pretended.setattr(sklearn, "__version__", "1.0.0")
        zoo.catalog = tree.deploy()
        cycle(zoo)
    before, recipe = champion(zoo), recipe_of(zoo.catalog.fleets["zoo"].models["weight"])
    (tree.zoo / f"_past/r_{recipe.hash[:16]}.py").write_text(recipe.source)
    zoo.catalog = tree.deploy("values + 1", "values * 0")
    monkeypatch.setattr(rebuild, "is_read_alike", lambda sample, predicted: False)
    assert zoo.retrain()["weight/GB"].kind == "rebuild"
    assert (champion(zoo).recipe, champion(zoo).id != before.id) == (recipe.hash, True)
    predicted = reader(zoo).load(*GB).predict(pd.DataFrame({"length": [1.0, 9.0]}))
    assert predicted == pytest.approx([2, 18], abs=0.5)
