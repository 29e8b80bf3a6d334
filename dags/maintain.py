"""Keeps house, daily.

**clean_history** deletes what Airflow remembers of runs older than *days*: runs, task instances, XComs, events, jobs, audit
log. Perennial's own registry is left alone, and so are task logs. It needs the connection `airflow_db` and is *skipped*
without it. **expire_data_docs** deletes the Data Docs pages of batches decided more than *docs_days* ago, but for held ones;
their results stay in `perennial.batches`.
**check_champions** loads every champion. Where its artifact is missing or altered, the last former
version that can be read takes over, as a release of its own kind (`fallback`) with the reason;
where none can, the cell is due, and its challenger is judged as a first model is. A champion that
is there and cannot be loaded is left in force. Owners are told once a day. **repair_pointers**
compares every champion's pointer in the store with its last release and rewrites those that are
missing, altered, behind, of another deployment or of an earlier generation. A pointer that names
what the registry does not know shows that the registry was restored: a new generation begins, and
readers follow it.

Running it again is harmless.
"""

from perennial_airflow.dags import maintain_dag

maintain = maintain_dag(__doc__)  # one Airflow DAG
