"""Airflow's REST API, as far as the embedded stack needs it."""

import time
from contextlib import suppress
from typing import Any

import httpx

from embedded.errors import ApiError, NotReady

TOKEN_SECONDS = 1800


class Api:
    """A client that logs in by itself."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self.user, self.password = url, user, password
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.token_until = 0.0
        self.is_warm = False

    def health(self) -> dict[str, str]:
        """Each component's status, empty while the api-server does not answer."""
        try:
            answer = self.client.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return {}
        if answer.status_code != httpx.codes.OK:
            return {}
        return {name: str(facts.get("status")) for name, facts in answer.json().items()}

    def warm_up(self) -> None:
        """Have the tasks' API build its routes, which it does at its first request, for seconds: else the first task waits.

        Nothing where the api-server does not answer: whoever waits for its health sees that.
        """
        if not self.is_warm:
            with suppress(httpx.TransportError):
                self.client.get("/execution/health")
                self.is_warm = True

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self._ask("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run; returns its id. Raises ApiError with Airflow's words for a configuration it refuses."""
        return str(self._ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        found: list[dict[str, Any]] = self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")[
            "task_instances"
        ]
        return found

    def import_errors(self) -> list[str]:
        """What Airflow could not parse."""
        return [str(error["stack_trace"]) for error in self._ask("GET", "/api/v2/importErrors")["import_errors"]]

    def wait_for_dag(self, dag_id: str, seconds: float = 90) -> None:
        """Wait until Airflow has read the DAG. Raises NotReady with the import errors there are."""
        deadline = time.monotonic() + seconds
        while not self._knows(dag_id):
            if time.monotonic() > deadline:
                raise NotReady(f"Airflow has not read {dag_id} within {seconds:.0f} s.\n" + "\n".join(self.import_errors()))
            time.sleep(0.3)

    def _knows(self, dag_id: str) -> bool:
        answer = self.client.get(f"/api/v2/dags/{dag_id}", headers=self._headers())
        return bool(answer.status_code == httpx.codes.OK)

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._send(method, path, **arguments)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self.token_until = 0.0
            answer = self._send(method, path, **arguments)
        if answer.is_error:
            raise ApiError(f"Airflow answered {method} {path} with {answer.status_code}: {answer.text}")
        return answer.json()

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self.client.request(method, path, headers=self._headers(), **arguments)
        except httpx.TransportError as error:
            raise ApiError(f"Airflow's API at {self.url} does not answer: {error}") from error

    def _headers(self) -> dict[str, str]:
        if time.monotonic() > self.token_until:
            answer = self.client.post("/auth/token", json={"username": self.user, "password": self.password})
            if answer.is_error:
                raise ApiError(f"Airflow refused the login of {self.user}: {answer.text}")
            self.token = answer.json()["access_token"]
            self.token_until = time.monotonic() + TOKEN_SECONDS
        return {"Authorization": f"Bearer {self.token}"}
