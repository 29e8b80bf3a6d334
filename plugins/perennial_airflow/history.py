"""Airflow's own history kept in bounds: its command for that, run beside the task."""

import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from perennial.errors import NothingToDo

logger = logging.getLogger(__name__)

DATABASE = "airflow_db"
# What grows with each run. Not dag, whose clean-up Airflow 3.3 cannot do where runs are left, nor trigger: a task may wait.
TABLES = (
    "asset_event", "callback", "celery_taskmeta", "dag_run", "dag_version", "import_error", "job", "log", "task_instance",
    "task_instance_history", "task_reschedule", "xcom",
)  # fmt: skip
BATCH_ROWS = 10_000


def clean_history(days: int) -> None:
    """Delete Airflow's records of runs older than some days; each DAG's last scheduled run stays.

    A task cannot reach Airflow's database, so this goes through the Connection airflow_db, given for this alone. Raises
    NothingToDo without it, CalledProcessError when a table could not be cleaned: its reason is in the log.
    """
    try:
        connection = Connection.get(DATABASE)
    except AirflowNotFoundException as error:
        raise NothingToDo(
            f"Airflow's history is not cleaned: there is no connection {DATABASE}. Add one to its database, see docs/deploy.md."
        ) from error
    before = datetime.now(UTC) - timedelta(days=days)
    logger.info("Deleting what Airflow remembers of runs before %s.", before)
    command = [sys.executable, "-m", "airflow", "db", "clean", "--yes", "--skip-archive", "--error-on-cleanup-failure"]
    options = ["--clean-before-timestamp", before.isoformat(), "--batch-size", str(BATCH_ROWS), "--tables", ",".join(TABLES)]
    subprocess.run([*command, *options], env=environment_of(connection), check=True)


def environment_of(connection: Any) -> dict[str, str]:
    """This process's environment for an Airflow command on its database, which tasks find masked."""
    masked = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "PERENNIAL_PRELOAD")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(masked)}
    return {**kept, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url_of(connection)}


def url_of(connection: Any) -> str:
    """The SQLAlchemy URL of a Postgres Connection; a host that is a folder is its socket's."""
    from sqlalchemy.engine import URL

    socket = {"host": connection.host} if (connection.host or "").startswith("/") else {}
    return URL.create(
        "postgresql+psycopg2", username=connection.login, password=connection.password or None,
        host=None if socket else connection.host, port=connection.port, database=connection.schema,
        query={**socket, **connection.extra_dejson},
    ).render_as_string(hide_password=False)  # fmt: skip
