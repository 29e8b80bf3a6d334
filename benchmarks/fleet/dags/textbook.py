"""The textbook DAG: four mapped tasks for each cell, which hand files to each other by path."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

CELLS = json.loads(os.environ.get("BENCH_TEXTBOOK_CELLS", "[]"))
WORK = Path(os.environ.get("BENCH_TEXTBOOK_WORK", "/nowhere"))
FEATURES = [f"x{number}" for number in range(15)]


@dag(schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC), catchup=False, max_active_tasks=64)
def textbook() -> None:
    """load → train → compare → publish, each mapped over the cells."""

    @task
    def load(cell: dict[str, Any]) -> dict[str, Any]:
        import pandas as pd

        columns = ["read_at", *FEATURES, cell["model"]]
        rows = pd.concat([pd.read_parquet(file, columns=columns) for file in cell["files"]]).sort_values("read_at")
        cell["rows"] = str(WORK / f"{cell['name']}.parquet")
        rows.to_parquet(cell["rows"])
        return cell

    @task
    def train(cell: dict[str, Any]) -> dict[str, Any]:
        import joblib
        import pandas as pd
        from sklearn.ensemble import HistGradientBoostingRegressor

        rows = pd.read_parquet(cell["rows"])
        cut = pd.Timestamp(cell["cut"])
        chosen = rows[(rows["read_at"] < cut) & (rows["read_at"] >= cut - pd.Timedelta(days=cell["window_days"]))]
        made = HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=0)
        made.fit(chosen[FEATURES], chosen[cell["model"]])
        cell["challenger"] = str(WORK / f"{cell['name']}.joblib")
        joblib.dump(made, cell["challenger"])
        return cell

    @task
    def compare(cell: dict[str, Any]) -> dict[str, Any]:
        import joblib
        import numpy as np
        import pandas as pd
        import sklearn.ensemble  # noqa: F401 - what the files hold

        rows = pd.read_parquet(cell["rows"])
        held = rows[rows["read_at"] >= pd.Timestamp(cell["cut"])]
        challenger, champion = (
            float(np.sqrt(np.mean((held[cell["model"]] - joblib.load(cell[which]).predict(held[FEATURES])) ** 2)))
            for which in ("challenger", "champion")
        )
        cell["is_better"] = challenger < champion
        return cell

    @task
    def publish(cell: dict[str, Any]) -> str:
        import shutil

        if not cell["is_better"]:
            return "kept"
        target = WORK / "live" / f"{cell['name']}.joblib"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell["challenger"], target)
        return "published"

    publish.expand(cell=compare.expand(cell=train.expand(cell=load.expand(cell=CELLS))))


textbook()
