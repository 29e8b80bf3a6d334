"""Links from a task's page in Airflow."""

from typing import Any

import attrs
from airflow.sdk import BaseOperatorLink

from perennial_airflow.border import PAGES, pages_url


@attrs.define
class DataDocsLink(BaseOperatorLink):
    """From a source's task to the index of its batches' pages."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The index of the source that the task's DAG takes in."""
        return f"{pages_url() or PAGES}/{ti_key.dag_id.removeprefix('ingest_')}/index.html"
