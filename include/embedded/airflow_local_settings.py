"""Imports what tasks need before the scheduler forks them, so that no task pays for it. Imports only: no thread is started.

Airflow imports this module in every process; only the one with PERENNIAL_PRELOAD set does anything.
"""

import importlib
import os

AIRFLOW = (
    "airflow.dag_processing.bundles.manager",
    "airflow.dag_processing.dagbag",
    "airflow.sdk.api.client",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
)
LIBRARIES = ("great_expectations", "pandas", "psycopg2", "pyarrow.parquet", "sklearn.ensemble", "sklearn.pipeline")
STEPS = (
    "perennial.steps.ingest",
    "perennial.core.expectations",
    "perennial.core.data_docs",
    "perennial.steps.document",
    "perennial.steps.worker",
    "perennial.steps.report",
)

if os.environ.pop("PERENNIAL_PRELOAD", ""):
    for name in (*AIRFLOW, *LIBRARIES, *STEPS):
        importlib.import_module(name)
