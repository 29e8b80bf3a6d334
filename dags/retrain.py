"""Retrains the fleet's due cells and publishes the winners.

**plan** writes down which cells are due. Each **train** worker takes cell after cell: it fits a challenger, judges it
against the champion on rows neither has seen, and publishes it when it is not inferior. **announce** says which champions
moved. **report** tells the owners what happened to their cells (`perennial.messages`). It is red when more cells failed than
the fleet allows, and names each failed cell with its cause.

Trigger it by hand for some models or countries; *force* trains cells that are not due, *dry run* publishes nothing.
Running it again, or clearing any task, is harmless. Outcomes are final, though: of a run that was reported, a cleared **plan**
says which of its failed cells to trigger anew. A run whose report never ended is closed by the next one. Each cell's log is
a section of its worker's log; outcomes, verdicts and releases are in `perennial.outcomes`, `perennial.verdicts` and
`perennial.releases`.
"""

from perennial_airflow.border import catalog
from perennial_airflow.dags import retrain_dag

for specs in catalog().fleets.values():  # one Airflow DAG per fleet
    globals()[f"retrain_{specs.fleet.name}"] = retrain_dag(specs, __doc__)
