"""The DAGs of a source and of a fleet, built from their specs."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, Param, dag, task

from perennial.catalog import FleetSpecs
from perennial.decision import ACTIONS
from perennial.spec import UNKNOWN_COUNTRY, Source
from perennial_airflow.border import (
    catalog,
    decision_of,
    failures_of,
    leaving_reason,
    post,
    reason_left,
    request_of,
    scheduler_of,
    source_run,
    stepping,
    task_states,
)
from perennial_airflow.links import DataDocsLink

START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = "Train as of that moment of the data, not of the newest rows. A backfill sets it to each of its dates."
WHAT_ACTIONS_DO = (
    "look: what is kept aside, in the log of decide. accept: a held batch, without its rejected rows. "
    "validate again: held batches, by today's spec. extract again: a held or retracted batch, from its table. "
    "retract: an accepted batch."
)
WHICH_COUNTRY = f"{UNKNOWN_COUNTRY}: rows whose country the source does not know. Empty: all, to look and to validate again."
WHICH_BATCH = "Its number in its country, as look shows it. Empty: all, to look and to validate again."
WHAT_REASON = "Why. Everything but look needs it; it is kept with your name."
DOCS_DAYS = "How long the page of a decided batch is kept. Those of held batches stay."
RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=5), "retry_exponential_backoff": 2.0}
# What never ends blocks the runs behind it. A task that meets its limit is tried again and goes on from what is recorded, so
# a limit costs little where it was too short. Queries and small files:
SHORT: dict[str, Any] = {"execution_timeout": timedelta(minutes=15)}
# Object after object of the store:
LONG: dict[str, Any] = {"execution_timeout": timedelta(hours=3)}
# A first landing may read years, and nothing of it is recorded until its end:
LANDING: dict[str, Any] = {"execution_timeout": timedelta(hours=12)}
# Batch after batch, each of which has a limit of its own (Checks.time_limit), so only their number makes it long:
BATCHES: dict[str, Any] = {"execution_timeout": timedelta(hours=6)}
# Cell after cell, each of which has a limit of its own (Model.time_limit), and thousands of them may take a day:
CELLS: dict[str, Any] = {"execution_timeout": None}


def accepted(source: str) -> Asset:
    """The wake-up call that fresh batches of a source were accepted."""
    return Asset(f"{source}_accepted", uri=f"perennial://sources/{source}")


def released(fleet: str) -> Asset:
    """The wake-up call that champions of a fleet have moved."""
    return Asset(f"{fleet}_released", uri=f"perennial://fleets/{fleet}")


def ingest_dag(source: Source, doc: str) -> DAG:
    """land → validate → announce for one source, document beside announce; then report, whatever became of them."""
    name = source.name

    @dag(
        dag_id=f"ingest_{name}", schedule=CronTriggerTimetable(source.schedule, timezone="UTC"), start_date=START,
        catchup=False, max_active_runs=1, tags=["perennial", "ingest"], default_args={**RETRIES, "owner": source.owner.name},
        doc_md=doc, description=f"Takes in what changed in the source {name}.",
    )  # fmt: skip
    def ingest() -> None:
        @task(**LANDING)
        def land(ti: Any) -> dict[str, int]:
            """Extract what changed since the cursor, one batch per country."""
            from perennial.steps import ingest

            with leaving_reason(ti):
                return stepping(ingest.land, catalog().source(name))  # type: ignore[no-any-return]

        @task(trigger_rule="none_failed", **BATCHES)
        def validate(ti: Any) -> dict[str, int]:
            """Accept or quarantine every landed batch."""
            from perennial.steps.validate import validate as step

            with leaving_reason(ti):
                return stepping(step, catalog().source(name))  # type: ignore[no-any-return]

        @task(trigger_rule="none_failed", outlets=[accepted(name)], **SHORT)
        def announce(ti: Any) -> list[str]:
            """Wake the fleets that read this source."""
            from perennial.steps import ingest

            with leaving_reason(ti):
                return stepping(ingest.announce, catalog().source(name))  # type: ignore[no-any-return]

        @task(**LONG)
        def document(ti: Any) -> dict[str, int]:
            """Make a page of each batch that was decided, and the index."""
            from perennial.steps.document import document as step

            with leaving_reason(ti):
                return stepping(step, name)  # type: ignore[no-any-return]

        @task(trigger_rule="all_done", **SHORT)
        def report(ti: Any) -> dict[str, int]:
            """Notify the owner of what has begun or ended; fails when a task before it has failed."""
            failures = failures_of(ti, ("land", "validate", "announce", "document"))
            return _report(name, ti, failures)

        validated, documented = validate(), document()  # type: ignore[call-arg]
        for each in (validated, documented):
            each.operator.operator_extra_links = (DataDocsLink(),)  # type: ignore[attr-defined]
        landed, announced = land(), announce()  # type: ignore[call-arg]
        landed >> validated >> [announced, documented]  # type: ignore[operator]
        [landed, validated, announced, documented] >> report()  # type: ignore[call-arg, operator]

    return ingest()


def quarantine_dag(source: Source, doc: str) -> DAG:
    """decide → announce for one source, by hand; report beside announce."""
    name = source.name

    @dag(
        dag_id=f"quarantine_{name}", schedule=None, start_date=START, catchup=False, is_paused_upon_creation=False,
        tags=["perennial", "quarantine"], default_args={**RETRIES, "owner": source.owner.name}, params=_choices(source),
        doc_md=doc, description=f"Decides by hand about rows and batches of the source {name} that are kept aside.",
    )  # fmt: skip
    def quarantine() -> None:
        @task(**BATCHES)
        def decide(params: dict[str, Any], dag_run: Any) -> dict[str, Any]:
            """Look at what is kept aside, or do what the form says about it."""
            from perennial.steps.quarantine import carry_out as step

            return stepping(step, catalog().source(name), decision_of(params, dag_run))  # type: ignore[no-any-return]

        @task(trigger_rule="none_failed", outlets=[accepted(name)], **SHORT)
        def announce(params: dict[str, Any]) -> list[str]:
            """Wake the fleets that read this source."""
            from perennial.steps.quarantine import announce as step

            return stepping(step, catalog().source(name), params["action"])  # type: ignore[no-any-return]

        @task(trigger_rule="none_failed", **SHORT)
        def report(ti: Any) -> dict[str, int]:
            """Notify the owner of what the decision has ended."""
            return _report(name, ti, None)

        decide() >> [announce(), report()]  # type: ignore[call-arg, operator]

    return quarantine()


def retrain_dag(specs: FleetSpecs, doc: str) -> DAG:
    """plan → train × N → announce and report for one fleet."""
    fleet = specs.fleet

    @dag(
        dag_id=f"retrain_{fleet.name}", schedule=_schedule(specs), start_date=START, catchup=False, max_active_runs=4,
        tags=["perennial", "retrain"], default_args={**RETRIES, "owner": fleet.owner.name}, params=_params(specs), doc_md=doc,
        description=f"Retrains the due cells of the fleet {fleet.name}, and publishes the winners.",
    )  # fmt: skip
    def retrain() -> None:
        @task(**SHORT)
        def plan(params: dict[str, Any], run_id: str, dag_run: Any, ti: Any) -> list[dict[str, int]]:
            """Write down which cells are due; one worker for each that is returned."""
            from perennial.steps.plan import plan as step

            with leaving_reason(ti):
                request = request_of(params, dag_run)
                made = stepping(step, catalog(), fleet.name, _run_of(fleet.name, run_id), request)
            return [{"worker": number + 1} for number in range(made.workers)]

        @task(map_index_template="worker {{ task.op_kwargs['worker'] }}", **CELLS)
        def train(worker: int, run_id: str) -> dict[str, int]:
            """Take cell after cell of the plan until none is left."""
            from perennial.steps.worker import work as step

            return stepping(step, catalog(), _run_of(fleet.name, run_id))  # type: ignore[no-any-return]

        @task(trigger_rule="all_done", outlets=[released(fleet.name)], **SHORT)
        def announce() -> list[str]:
            """Say which champions moved."""
            from perennial.steps.report import announce as step

            return stepping(step, catalog(), fleet.name)  # type: ignore[no-any-return]

        @task(trigger_rule="all_done", **SHORT)
        def report(run_id: str, ti: Any) -> dict[str, int]:
            """Say what the run came to and tell the owners; fails when more cells failed than the fleet allows."""
            from perennial.steps.report import report as step

            asked = (_run_of(fleet.name, run_id), scheduler_of(fleet.name, ti), reason_left(ti, "plan"))
            return stepping(step, catalog(), *asked)  # type: ignore[no-any-return]

        trained = train.expand_kwargs(plan())  # type: ignore[arg-type]
        trained >> [announce(), report()]  # type: ignore[call-arg]

    return retrain()


def maintain_dag(doc: str) -> DAG:
    """clean_history, expire_data_docs, and check_champions before repair_pointers."""

    @dag(
        dag_id="maintain", dag_display_name="perennial: maintain", description="Keeps Perennial's house, daily.",
        schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"), start_date=START, catchup=False,
        max_active_runs=1, tags=["perennial", "maintain"], default_args={**RETRIES, "owner": "perennial"},
        params={
            "days": Param(30, type="integer", minimum=1, title="Days", description="How long Airflow remembers a run."),
            "docs_days": Param(30, type="integer", minimum=1, title="Days of Data Docs", description=DOCS_DAYS),
        },
        doc_md=doc,
    )  # fmt: skip
    def maintain() -> None:
        @task(**LONG)
        def clean_history(params: dict[str, Any]) -> None:
            """Delete what Airflow remembers of old runs."""
            from perennial_airflow.history import clean_history as step

            with task_states():
                step(params["days"])

        @task(**LONG)
        def expire_data_docs(params: dict[str, Any]) -> int:
            """Delete the pages of batches that were decided long ago."""
            from perennial.steps.document import expire as step

            return stepping(step, list(catalog().sources), params["docs_days"])  # type: ignore[no-any-return]

        @task(trigger_rule="all_done", **LONG)
        def repair_pointers() -> int:
            """Bring every pointer into step with its cell's last release."""
            from perennial.steps.pointers import repair_pointers as step

            return stepping(step, catalog())  # type: ignore[no-any-return]

        @task(**LONG)
        def check_champions() -> dict[str, int]:
            """Load every champion; where one is lost a former one takes over, and its owner is told."""
            from perennial.steps.succession import check_champions as step

            return stepping(step, catalog())  # type: ignore[no-any-return]

        clean_history()  # type: ignore[call-arg]
        expire_data_docs()  # type: ignore[call-arg]
        check_champions() >> repair_pointers()  # type: ignore[operator]

    return maintain()


def compact_dag(doc: str) -> DAG:
    """compact, by itself: it is due more often than the rest of the house-keeping."""

    @dag(
        dag_id="compact", dag_display_name="perennial: compact", description="Puts Perennial's small batches together, hourly.",
        schedule=CronTriggerTimetable("20 * * * *", timezone="UTC"), start_date=START, catchup=False,
        max_active_runs=1, tags=["perennial", "maintain"], default_args={**RETRIES, "owner": "perennial"}, doc_md=doc,
    )  # fmt: skip
    def compact() -> None:
        @task(task_id="compact", **LONG)
        def put_together() -> dict[str, int]:
            """Put small batches together, and remove what is read no more."""
            from perennial.steps.compact import compact as step

            return stepping(step, catalog())  # type: ignore[no-any-return]

        put_together()

    return compact()


def _report(source: str, ti: Any, failures: dict[str, str] | None) -> dict[str, int]:
    from perennial.steps.source_report import report as step

    with task_states():
        return step(post(), catalog().source(source), source_run(ti.dag_id, ti.run_id), failures)


def _run_of(fleet: str, run_id: str) -> str:
    return f"{fleet}/{run_id}"


def _schedule(specs: FleetSpecs) -> Any:
    fallback = CronTriggerTimetable(specs.fleet.schedule, timezone="UTC")
    assets = [accepted(source) for source in specs.sources]
    return AssetOrTimeSchedule(timetable=fallback, assets=_any(assets)) if assets else fallback


def _any(assets: list[Asset]) -> Any:
    either: Any = assets[0]
    for asset in assets[1:]:
        either = either | asset
    return either


def _choices(source: Source) -> dict[str, Param]:
    countries = [None, *sorted({*source.countries.values(), UNKNOWN_COUNTRY})]
    return {
        "action": Param(ACTIONS[0], type="string", enum=[*ACTIONS], title="Action", description=WHAT_ACTIONS_DO),
        "country": Param(
            None, type=["null", "string"], enum=countries, values_display={"null": "all"}, title="Country",
            description=WHICH_COUNTRY,
        ),
        "batch": Param(None, type=["null", "integer"], minimum=1, title="Batch", description=WHICH_BATCH),
        "reason": Param(None, type=["null", "string"], title="Reason", description=WHAT_REASON),
    }  # fmt: skip


def _params(specs: FleetSpecs) -> dict[str, Param]:
    models = sorted({cell.model for cell in specs.cells()})
    countries = sorted({cell.country for cell in specs.cells()})

    def several(of: list[str], title: str) -> Param:
        items = {"type": "string", "enum": of}
        return Param(None, type=["null", "array"], items=items, examples=of, title=title, description="Empty: all.")

    return {
        "models": several(models, "Models"),
        "countries": several(countries, "Countries"),
        "force": Param(False, type="boolean", title="Force", description="Train cells that are not due, too."),
        "dry_run": Param(False, type="boolean", title="Dry run", description="Train and judge, record and publish nothing."),
        "as_of": Param(None, type=["null", "string"], format="date-time", title="As of", description=AS_OF),
    }
