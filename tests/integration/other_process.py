"""The zoo in a process of its own, with libraries of its own: ``python other_process.py``, asked by JSON on its input.

Asked for ``steps``: ``retrain`` (a cycle on what is ingested), ``read`` (what a service reads).
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import sklearn
from conftest import Zoo
from toolbox import add_model, reader
from toy_models.zoo import _boosted

from perennial.catalog import load_catalog
from perennial.resources import Resources
from perennial.shell.store import open_store

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


def main(asked: dict[str, Any]) -> dict[str, Any]:
    resources = Resources(
        database=asked["database"],
        store=open_store(asked["store"]),
        signing_key=Path(asked["signing_key"]),
        public_keys=Path(asked["public_keys"]),
        source_dsn=lambda name: str(asked["shop"]),
    )
    numbers = itertools.count(asked["first"])
    catalog = load_catalog("toy_models", "toy_sources")
    zoo = Zoo(shop=asked["shop"], resources=resources, catalog=catalog, ids=numbers, runs=numbers)
    boosted(zoo)
    answer: dict[str, Any] = {"scikit-learn": sklearn.__version__}
    for step in asked["steps"]:
        if step == "retrain":
            answer[step] = {cell: [row.state, row.reason] for cell, row in zoo.retrain().items()}
        else:
            answer[step] = read(zoo, "weight", "boosted")
    return answer


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
