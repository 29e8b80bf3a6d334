"""Keeps house, daily.

**clean_history** deletes what Airflow remembers of runs older than *days*: runs, task instances, XComs, events, jobs, audit
log. Perennial's own registry is left alone, and so are task logs. It needs the connection `airflow_db` and is *skipped*
without it. **expire_data_docs** deletes the Data Docs pages of batches decided more than *docs_days* ago, but for held ones;
their results stay in `perennial.batches`. **repair_pointers** compares every champion's pointer in the store with its last
release and rewrites those that are missing, altered or behind: what a release left behind is mended when it is announced,
this finds what happened later.

Running it again is harmless.
"""

from perennial_airflow.dags import maintain_dag

maintain = maintain_dag(__doc__)  # one Airflow DAG
