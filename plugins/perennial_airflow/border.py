"""The border: what crosses between Airflow and the domain."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Connection
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from perennial.catalog import Catalog, load_catalog
from perennial.connections import dsn_of, store_of
from perennial.decision import Decision
from perennial.errors import NothingToDo, Refused, SettingsError
from perennial.settings import key_file

if TYPE_CHECKING:
    from perennial.core.source_messages import SourceRun
    from perennial.resources import MailRelay, Post, Resources
    from perennial.shell.store import Store
    from perennial.steps.plan import Request
    from perennial.steps.report import Scheduler

DATABASE = "perennial_db"
STORE = "perennial_store"
MAIL = "perennial_mail"
PAGES = "/perennial/data-docs"
FAILURE = "failure"  # the XCom that says what a task has failed with
NO_WORD = "It was killed, or met its time limit, without a word. See its log."
ACTIVE = ("queued", "running")  # states of a run that is not over


@contextmanager
def task_states() -> Iterator[None]:
    """Nothing to do: skip. The fleet refuses: fail without retry. Anything else: Airflow retries."""
    try:
        yield
    except NothingToDo as error:
        raise AirflowSkipException(str(error)) from error
    except Refused as error:
        raise AirflowFailException(str(error)) from error


@contextmanager
def leaving_reason(task: Any) -> Iterator[None]:
    """Leave the own sentence of what fails here to later tasks of the run: ``reason_left``."""
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:
        from perennial.failures import text_of

        told = error.__cause__ if isinstance(error, AirflowFailException) else error
        task.xcom_push(key=FAILURE, value=text_of(told or error))
        raise


def reason_left(task: Any, task_id: str) -> str:
    """What a task of the same run has failed with, empty where it has not, or could not say."""
    return task.xcom_pull(task_ids=task_id, key=FAILURE) or ""


def failures_of(task: Any, task_ids: Sequence[str]) -> dict[str, str]:
    """Which of some tasks of the same run have failed, and with which sentence, in their order."""
    found = task.get_task_states(task.dag_id, task_ids=list(task_ids), run_ids=[task.run_id])
    states = found.get(task.run_id, {})
    failed = [each for each in task_ids if states.get(each) == "failed"]
    return {each: reason_left(task, each) or NO_WORD for each in failed}


@cache
def catalog() -> Catalog:
    """The specs of the deployed tree, read once per process."""
    return load_catalog()


def resources() -> "Resources":
    """The outside world from Airflow's Connections and the keys' environment variables."""
    from perennial.resources import Resources
    from perennial.shell.store import open_store

    return Resources(
        database=dsn_of(_connection(DATABASE)),
        store=store(),
        signing_key=key_file("PERENNIAL_SIGNING_KEY"),
        public_keys=key_file("PERENNIAL_PUBLIC_KEYS"),
        source_dsn=lambda name: dsn_of(_connection(name)),
        source_store=lambda name: open_store(*store_of(_connection(name))),
        mail=mail_relay,
        pages=pages_url(),
    )


def post() -> "Post":
    """What it takes to notify owners, where nothing else is to be had."""
    from perennial.resources import Post

    return Post(database=dsn_of(_connection(DATABASE)), mail=mail_relay)


def store() -> "Store":
    """The store alone, from its Connection."""
    from perennial.shell.store import open_store

    return open_store(*store_of(_connection(STORE)))


def mail_relay() -> "MailRelay | None":
    """The mail relay of the connection perennial_mail, None where there is none: it is optional."""
    try:
        return relay_of(Connection.get(MAIL))
    except AirflowNotFoundException:
        return None


def relay_of(connection: Any) -> "MailRelay":
    """The mail relay of an SMTP Connection; its extra holds ``from`` and ``security``."""
    from perennial.resources import MailRelay

    extra = connection.extra_dejson
    return MailRelay(
        host=connection.host or "", port=connection.port, login=connection.login or "", password=connection.password or "",
        sender=str(extra.get("from", "")), security=str(extra.get("security", "starttls")),
    )  # fmt: skip


def pages_url() -> str:
    """Where Airflow serves Data Docs, empty where Airflow does not know its own address."""
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}{PAGES}" if base else ""


def run_url(dag_id: str, run_id: str) -> str:
    """Airflow's page of a run, empty where Airflow does not know its own address."""
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}" if base else ""


def source_run(dag_id: str, run_id: str) -> "SourceRun":
    """A run of a source's DAG, as its owner is notified of it."""
    from perennial.core.source_messages import SourceRun
    from perennial.pages import index_key, path_of

    source, pages = dag_id.partition("_")[2], pages_url()
    docs = f"{pages}/{path_of(index_key(source))}" if pages else ""
    return SourceRun(run_id=f"{dag_id}/{run_id}", url=run_url(dag_id, run_id), docs=docs)


def scheduler_of(fleet: str, task: Any) -> "Scheduler":
    """What Airflow knows of a fleet's runs, as far as a running task can ask. Runs that are not Airflow's are never over."""
    from perennial.steps.report import Scheduler

    dag_id, prefix = f"retrain_{fleet}", f"{fleet}/"

    def is_over(run_id: str) -> bool:
        if not run_id.startswith(prefix):
            return False
        return bool(task.get_dr_count(dag_id, run_ids=[run_id.removeprefix(prefix)], states=list(ACTIVE)) == 0)

    return Scheduler(page=lambda run_id: run_url(dag_id, run_id.removeprefix(prefix)), is_over=is_over)


def _connection(name: str) -> Any:
    try:
        return Connection.get(name)
    except AirflowNotFoundException as error:
        raise SettingsError(
            f"Airflow has no connection {name}. Add it under Admin > Connections, or set AIRFLOW_CONN_{name.upper()}."
        ) from error


def stepping(step: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Run a step with the outside world as its first argument, its errors as task states."""
    with task_states():
        return step(resources(), *arguments, **keywords)


def request_of(params: dict[str, Any], dag_run: Any) -> "Request":
    """What a run's trigger form asks for; a backfill's runs ask for the data as of their dates."""
    from perennial.steps.plan import Request, moment

    with task_states():
        asked = moment(params["as_of"]) if params["as_of"] else None
    if asked is None and dag_run.run_type == "backfill":
        asked = dag_run.logical_date
    return Request(
        models=params["models"], countries=params["countries"], force=params["force"], dry_run=params["dry_run"], as_of=asked
    )


def decision_of(params: dict[str, Any], dag_run: Any) -> Decision:
    """What a person asks for in the form of a source's quarantine; the person is the one who triggered the run."""
    return Decision(
        action=params["action"], country=params["country"], seq=params["batch"],
        person=dag_run.triggering_user_name or "", reason=params["reason"] or "",
    )  # fmt: skip
