"""The zoo in a process of its own, with libraries of its own: ``python other_process.py``, asked by JSON on its input.

Asked for ``steps``: ``retrain`` (a cycle on what is ingested), ``read`` (what a service reads).
"""

import json
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import sklearn
from toolbox import add_model, reader
from toy_models.zoo import _boosted

from perennial.catalog import load_catalog
from perennial.resources import Resources
from perennial.shell.database import connect, fetch
from perennial.shell.store import open_store
from perennial.steps.plan import Request, plan
from perennial.steps.report import report
from perennial.steps.train import train

LENGTHS = pd.DataFrame({"length": [1.0, 5.0, 9.0]})


def boosted(zoo: Any) -> None:
    """Two models in the fleet: ``weight``, a straight line, and ``boosted``, trees."""
    add_model(zoo, "boosted", estimator=_boosted.estimator)
    zoo.catalog.fleets["zoo"].models.pop("late", None)


def read(zoo: Any, *models: str) -> dict[str, Any]:
    """What a service reads of each model in GB."""
    champions = reader(zoo)
    found = {model: champions.load(model, "GB") for model in models}
    return {
        model: {
            "seq": each.seq,
            "version": each.version,
            "is_former": each.is_former,
            "predicted": each.predict(LENGTHS).tolist(),
        }
        for model, each in found.items()
    }


def retrain(zoo: Any, run_id: str) -> dict[str, tuple[str, str]]:
    """A cycle on what is ingested: state and reason of each outcome."""
    plan(zoo.resources, zoo.catalog, "zoo", run_id, Request())
    train(zoo.resources, zoo.catalog, run_id)
    report(zoo.resources, zoo.catalog, run_id)
    with closing(connect(zoo.resources.database)) as database:
        outcomes = fetch(database, "outcomes_of", run_id=run_id)
    return {f"{row.model}/{row.country}": (row.state, row.reason) for row in outcomes}


def main(asked: dict[str, Any]) -> dict[str, Any]:
    resources = Resources(
        database=asked["database"],
        store=open_store(asked["store"]),
        signing_key=Path(asked["signing_key"]),
        public_keys=Path(asked["public_keys"]),
        source_dsn=str,
    )
    zoo = SimpleNamespace(resources=resources, catalog=load_catalog("toy_models", "toy_sources"))
    boosted(zoo)
    answer: dict[str, Any] = {"scikit-learn": sklearn.__version__}
    for step in asked["steps"]:
        answer[step] = retrain(zoo, asked["run_id"]) if step == "retrain" else read(zoo, "weight", "boosted")
    return answer


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
