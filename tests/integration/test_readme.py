"""The README's reader example, run as it is written, against the champion of every model of the example fleets."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from toolbox import CREDENTIALS

from perennial.catalog import load_catalog
from perennial.cell import Cell
from perennial.core.metrics import METRICS, predict
from perennial.core.samples import Sample
from perennial.core.training import Fit
from perennial.recipe import recipe_of
from perennial.resources import Resources
from perennial.shell.registry import Deployment
from perennial.shell.store import open_store
from perennial.steps.pointers import put_pointer
from perennial.steps.publishing import Challenger, store_artifact
from perennial.steps.small_fits import fitted

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
(EXAMPLE,) = (block for block in BLOCKS if "Champions.from_url" in block)
URL, READ = '"s3://bucket/prefix"', 'champions.load("price", "GB").predict(features)'
SPECS = {model.name: model for specs in load_catalog().fleets.values() for model in specs.models.values()}
SERVICE = """
import json, sys
import pandas as pd

predictions = {}
for model, country in json.loads(sys.argv[1]).items():
    features = pd.read_parquet(f"{model}.parquet")
    lines = EXAMPLE.replace('"price", "GB"', f'"{model}", "{country}"').splitlines()
    lines[-1] = f"predictions[{model!r}] = list({lines[-1]})"
    exec("\\n".join(lines))
print(json.dumps(predictions))
"""


def publish(resources, model, features, estimator):
    """A release of a cell, as a worker makes it."""
    now = datetime.now(UTC)
    fit = Fit(estimator=estimator, until=now, rows=len(features), target_mean=0.0, target_min=0.0, target_max=1.0)
    recipe = recipe_of(model)
    nothing = np.zeros(len(features))
    challenger = Challenger(
        version=recipe.hash,
        recipe=recipe.hash,
        parameters=recipe.parameters,
        judged=fit,
        served=fit,
        sample=Sample(features=features, expected={"judged": nothing, "served": nothing}, spread=1.0),
    )
    manifest, _ = store_artifact(resources, model, Cell(model.name, model.countries[0]), challenger, "d1")
    put_pointer(resources, Deployment(id="d1", generation=1), manifest, 1)


@pytest.fixture(scope="module")
def read(s3, keys, tmp_path_factory):
    """What the example predicts for each model, in a process that knows the store, the public key and the features alone."""
    folder = tmp_path_factory.mktemp("service")
    store = open_store(json.loads(URL), s3)
    resources = Resources(database="", store=store, signing_key=keys[0], public_keys=keys[1], source_dsn=str)
    expected = {}
    for name, model in SPECS.items():
        estimator, features = fitted(model, load_catalog().sources[model.source])
        publish(resources, model, features, estimator)
        features.to_parquet(folder / f"{name}.parquet")
        expected[name] = predict(estimator, features, METRICS[model.metric], name)
    (folder / "public.pem").write_bytes(keys[1].read_bytes())
    predictions = serve(folder, s3, {name: model.countries[0] for name, model in SPECS.items()})
    return {name: (np.array(predictions[name]), expected[name]) for name in SPECS}


def serve(folder, s3, cells):
    """Run the service in its folder."""
    code = f"EXAMPLE = {EXAMPLE!r}\n{SERVICE}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PERENNIAL")},
        "PYTHONPATH": str(README.parent / "include"),
        "AWS_ENDPOINT_URL": s3["endpoint_url"],
        "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": CREDENTIALS["region_name"],
    }
    ended = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cells)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_the_example_is_about_a_shipped_model_and_names_no_type():
    assert URL in EXAMPLE
    assert EXAMPLE.splitlines()[-1] == READ
    assert "trusted" not in EXAMPLE


@pytest.mark.parametrize("name", SPECS)
def test_the_example_reads_the_champion_of_every_shipped_model(read, name):
    predicted, expected = read[name]
    assert len(predicted) > 0
    np.testing.assert_allclose(predicted, expected, rtol=1e-9)
