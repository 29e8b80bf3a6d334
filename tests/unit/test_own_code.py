"""A champion is its own code: what an artifact names of its fleet is its version's, whatever the tree says today."""

import importlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from trees import MODEL, Tree

from perennial.cell import Cell
from perennial.client import Champions
from perennial.core import artifacts
from perennial.core.samples import Sample
from perennial.core.training import Fit
from perennial.errors import ArtifactError, RecipeMissing
from perennial.recipe import Frozen, frozen_of, recipe_of
from perennial.resources import Resources
from perennial.shell.registry import Deployment
from perennial.shell.store import open_store
from perennial.steps.pointers import put_pointer
from perennial.steps.publishing import Challenger, store_artifact

GB = Cell("weight", "GB")
ROWS = pd.DataFrame({"length": [1.0, 2.0, 3.0, 4.0]})
ESTIMATOR = """def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)"""
OWN_ESTIMATOR = """def reshaped(values):
    return values * 2


class Shifted(Ridge):
    def predict(self, features):
        return super().predict(features) + 100


def estimator():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(reshaped), Shifted(alpha=1e-9))"""
TRUSTED = 'trusted=("toy_models.zoo.weight.reshaped", "toy_models.zoo.weight.Shifted")'
OWN = (
    MODEL.replace(ESTIMATOR, OWN_ESTIMATOR)
    .replace(
        "from toy_models.zoo import zoo\n",
        "from toy_models.zoo import zoo\nfrom sklearn.linear_model import Ridge\n",
    )
    .replace('metric="rmse",', f'metric="rmse", {TRUSTED},')
)


@dataclass
class World:
    """A tree, a store, and the champion of one cell whose artifact names code of the tree."""

    tree: Tree
    resources: Resources
    recipe: Any
    model: Any

    def read(self) -> list[float]:
        """What a service reads and predicts today."""
        champions = Champions.from_url(self.resources.store.url, self.resources.public_keys)
        return [round(float(value), 6) for value in champions.load(*GB).predict(ROWS)]

    def edit(self, old: str, new: str) -> Any:
        """Deploy a tree whose model file is another one."""
        self.tree.model(OWN.replace(old, new))
        return self.redeployed()

    def redeployed(self) -> Any:
        for name in [name for name in sys.modules if name.startswith(self.tree.models)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return self.tree.weight()

    def freeze(self) -> None:
        self.tree.write("models/zoo/_past/__init__.py", "")
        self.tree.write(f"models/zoo/_past/r_{self.recipe.hash[:16]}.py", self.recipe.source)


@pytest.fixture
def world(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    tree.model(OWN)
    key = Ed25519PrivateKey.generate()
    (tmp_path / "signing.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    store = open_store((tmp_path / "store").as_uri())
    signing, trusted = tmp_path / "signing.pem", tmp_path / "public.pem"
    resources = Resources(database="", store=store, signing_key=signing, public_keys=trusted, source_dsn=str)
    model = tree.weight()
    made = World(tree=tree, resources=resources, recipe=recipe_of(model), model=model)
    manifest, _ = store_artifact(resources, model, GB, challenger(model), "d1")
    put_pointer(resources, Deployment(id="d1", generation=1), manifest, 1)
    return made


def challenger(model):
    fitted = model.estimator().fit(ROWS, ROWS["length"] * 3)
    now = datetime.now(UTC)
    fit = Fit(estimator=fitted, until=now, rows=4, target_mean=7.5, target_min=3.0, target_max=12.0)
    expected = fitted.predict(ROWS)
    recipe = recipe_of(model)
    return Challenger(
        version="v" * 64,
        recipe=recipe.hash,
        parameters=recipe.parameters,
        judged=fit,
        served=fit,
        sample=Sample(features=ROWS, expected={"judged": expected, "served": expected}, spread=1.0),
    )


EXPECTED = [103.0, 106.0, 109.0, 112.0]


def test_code_that_was_not_edited_is_todays(world):
    assert world.read() == EXPECTED
    assert frozen_of(world.model, world.recipe.hash) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return values * 2", "return values ** 3"),
        ("+ 100", "- 100"),
        ("reshaped", "renamed"),
        ("Shifted", "Moved"),
    ],
)
def test_a_champion_predicts_by_its_own_code_after_an_edit(world, old, new):
    world.freeze()
    model = world.edit(old, new)
    assert recipe_of(model).hash != world.recipe.hash
    assert world.read() == EXPECTED


def test_a_champion_predicts_by_its_own_code_after_its_types_were_taken_out_of_the_spec(world):
    world.freeze()
    world.tree.model(OWN.replace("return values * 2", "return values ** 3").replace(f"{TRUSTED},", ""))
    assert world.redeployed().trusted == ()
    assert world.read() == EXPECTED


def test_a_champion_whose_code_was_lost_is_refused_and_the_fix_is_named(world):
    model = world.edit("return values * 2", "return values ** 3")
    with pytest.raises(ArtifactError, match=r"code that this tree lacks: Model weight was edited .* `make freeze`"):
        world.read()
    frozen, data = frozen_of(model, world.recipe.hash), artifacts.encode_estimator(challenger(world.model).judged.estimator)
    with pytest.raises(RecipeMissing, match="`make freeze`"):
        artifacts.decode_estimator(data, world.model.trusted, frozen)


def test_a_reader_without_the_fleets_tree_is_told_so(world):
    (world.tree.folder / world.tree.models / "zoo/weight.py").unlink()
    for name in [name for name in sys.modules if name.startswith(world.tree.models)]:
        del sys.modules[name]
    with pytest.raises(ArtifactError, match=r"this tree has no such model\. Deploy it"):
        world.read()


def test_code_beside_the_fleet_is_refused_at_publication(world):
    world.tree.write("models/common.py", "def halved(values):\n    return values / 2\n")
    common = importlib.import_module(f"{world.tree.models}.common")
    made = challenger(world.model)
    made.judged.estimator.steps[0][1].func = common.halved
    with pytest.raises(ArtifactError, match=r"common\.halved, which no recipe keeps.*Move it into models_\d+\.zoo"):
        store_artifact(world.resources, world.model, GB, made, "d1")


def test_only_what_names_the_fleet_is_taken_from_the_frozen_module():
    frozen = Frozen(package="models.shop", module="models.shop._past.r_1")
    node = {
        "a": [
            {"__module__": "models.shop.price", "__class__": "Twice"},
            {"__module__": "models.shopping.price"},
        ]
    }
    (own, other) = artifacts._with_modules(node, frozen)["a"]
    assert (own["__module__"], other["__module__"]) == (
        "models.shop._past.r_1",
        "models.shopping.price",
    )
