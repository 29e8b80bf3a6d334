"""Decides about what the validation of the source keeps aside, by hand: Trigger, and choose an action.

* *look* shows in the log of **decide** which batches are held and which have rejected rows: reasons, sizes, where the rows
  lie, and some of them.
* *accept* takes a held batch as it is, without its rejected rows.
* *validate again* judges held batches by today's spec, after that was mended. Rows whose country the spec did not know, batches
  of country ZZ, go to the countries that it knows by now.
* *extract again* reads a held or retracted batch anew from its table: its rows were mended without a new `changed_at`, or its
  object is damaged or lost. What comes is validated and takes its place. (Rows mended with a new `changed_at` come in by
  themselves. Of a source of files, write the file anew.)
* *retract* takes an accepted batch back. **decide** names the versions trained on it, in its log and in what it returns;
  champions among them stay in force until a challenger that was trained without it is not inferior.

Each decision is kept in `perennial.batch_decisions` with its reason and whoever triggered the run. **announce** then wakes the
fleets that read the source: the cells concerned are due. **report** notifies the source's owner of what is settled.

There is one such DAG per source, as its batches, countries, owner and permissions are: whoever may trigger it may decide.
It has no schedule, and a run that no person triggered decides nothing.

Running it again is harmless: the same decision made twice is one.
"""

from perennial_airflow.border import catalog
from perennial_airflow.dags import quarantine_dag

for source in catalog().sources.values():  # one Airflow DAG per source
    globals()[f"quarantine_{source.name}"] = quarantine_dag(source, __doc__)
