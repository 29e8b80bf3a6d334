"""Perennial in Airflow's API server."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class PerennialPlugin(AirflowPlugin):
    """Serves Data Docs. Airflow loads plugins in every process, and asks for this in its API server alone."""

    name = "perennial"

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The applications that Airflow serves beside its own."""
        from perennial_airflow.api import SERVED

        return [SERVED]
