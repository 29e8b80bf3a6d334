"""A small world: a table of sightings that grows, and the DAGs of the toy specs over it."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg2
import pytest

from perennial.catalog import Catalog, FleetSpecs

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = """
CREATE TABLE sightings (
    id bigint GENERATED ALWAYS AS IDENTITY, changed_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz,
    country text, length double precision, weight double precision, PRIMARY KEY (id, changed_at))
"""


@dataclass
class World:
    """The databases behind the Connections, the specs that the DAGs are built from, how often each task of the last run
    was tried and what it returned."""

    perennial: str
    zoo: str
    catalog: Catalog
    random: np.random.Generator
    patch: pytest.MonkeyPatch
    tries: dict[Any, int] = field(default_factory=dict)
    returned: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import perennial_airflow.dags

        self.patch.setattr(perennial_airflow.dags, "catalog", lambda: self.catalog)
        self.patch.setattr(perennial_airflow.dags, "RETRIES", {"retries": 1, "retry_delay": timedelta(0)})

    def see(self, country: str, days: range, per_day: int = 20) -> None:
        """Write sightings for some days after START, ``weight = 2 × length + noise``."""
        moments = [START + timedelta(days=day + share) for day in days for share in self.random.uniform(0, 0.9, per_day)]
        lengths = self.random.uniform(0, 10, len(moments))
        weights = 2 * lengths + self.random.normal(0, 0.5, len(moments))
        rows = [(moment, country, float(x), float(y)) for moment, x, y in zip(moments, lengths, weights, strict=True)]
        self.execute(self.zoo, "INSERT INTO sightings (seen_at, country, length, weight) VALUES (%s, %s, %s, %s)", rows)

    def execute(self, dsn: str, statement: str, rows: list[Any] | None = None) -> list[Any]:
        """Run a statement, once or for many rows; returns what it selects."""
        with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
            if rows is None:
                cursor.execute(statement)
            else:
                cursor.executemany(statement, rows)
            found = cursor.fetchall() if cursor.description else []
        connection.close()
        return found

    def outcomes(self) -> dict[str, str]:
        """Outcomes of all runs by cell."""
        return dict(self.execute(self.perennial, "SELECT model || '/' || country, state FROM perennial.outcomes"))

    @property
    def fleet(self) -> FleetSpecs:
        """The fleet ``zoo``."""
        return self.catalog.fleet("zoo")

    def keep(self, *models: str, **changes: Any) -> None:
        """Leave only these models in the fleet, with changed specs."""
        kept = {name: replace(self.fleet.models[name], **changes) for name in models}
        self.catalog = replace(self.catalog, fleets={"zoo": replace(self.fleet, models=kept)})

    def ingest(self) -> tuple[str, dict[Any, str]]:
        """Run the source's DAG; returns the run's state and those of its tasks."""
        from perennial_airflow.dags import ingest_dag

        return self._run(ingest_dag(self.catalog.source("sightings"), "doc"))

    def decide(self, action: str, country: str | None = None, batch: int | None = None, reason: str | None = None) -> Any:
        """Run the DAG of the source's quarantine; returns the run's state and those of its tasks."""
        from perennial_airflow.dags import quarantine_dag

        asked = {"action": action, "country": country, "batch": batch, "reason": reason}
        return self._run(quarantine_dag(self.catalog.source("sightings"), "doc"), asked)

    def retrain(self, **conf: Any) -> tuple[str, dict[Any, str]]:
        """Run the fleet's DAG; returns the run's state and those of its tasks, mapped ones by name and index."""
        from perennial_airflow.dags import retrain_dag

        return self._run(retrain_dag(self.fleet, "doc"), conf)

    def compact(self) -> tuple[str, dict[Any, str]]:
        """Run the DAG that puts batches together; returns the run's state and those of its tasks."""
        from perennial_airflow.dags import compact_dag

        return self._run(compact_dag("doc"))

    def _run(self, dag: Any, conf: dict[str, Any] | None = None) -> tuple[str, dict[Any, str]]:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        bag = DagBag(dag_folder="/dev/null", bundle_name="dags-folder")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        run = dag.test(run_conf=conf)
        tasks = run.get_task_instances()
        self.tries = {_name(task): task.try_number for task in tasks}
        self.returned = {_name(task): task.xcom_pull(task.task_id, map_indexes=task.map_index) for task in tasks}
        return str(run.state), {_name(task): str(task.state) for task in tasks}


def _name(task: Any) -> Any:
    return task.task_id if task.map_index < 0 else (task.task_id, task.map_index)
