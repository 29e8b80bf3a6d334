"""Takes in what changed in a source.

**land** extracts every change since the cursor, or every file that is new, one batch per country. **validate** accepts a
batch or quarantines it with a reason; one country's bad data stops that country only. **announce** wakes the fleets that
read the source. **document** makes Data Docs, a page for each batch: *Data Docs* in the details of this task and of
**validate** leads to them. A page that cannot be made is an error in its log and tried again the next time; the batch's
decision stands. **report** notifies the source's owner, by mail and in its log, once of what has begun and once that it is
over (docs/notifications.md). It runs whatever became of the others, and is red where one of them is, with its sentence.

Running it again is harmless: the cursor moves in the transaction that records the batches. A *skipped* task had nothing to
do. If **land** fails, its message names the table, column or connection. A file that it refuses stands with its reason in
its log and in `perennial.files`, and the others land. If batches are quarantined, their reasons stand in the log of
**validate** and in `perennial.batches`.
"""

from perennial_airflow.border import catalog
from perennial_airflow.dags import ingest_dag

for source in catalog().sources.values():  # one Airflow DAG per source
    globals()[f"ingest_{source.name}"] = ingest_dag(source, __doc__)
