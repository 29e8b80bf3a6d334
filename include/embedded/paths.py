"""Where everything lies: the state folder is all that a run leaves behind, the repository is only read."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The folders of one embedded stack; `at` makes them absolute."""

    state: Path
    repo: Path

    @classmethod
    def at(cls, state: Path, repo: Path) -> "Paths":
        return cls(state.expanduser().resolve(), repo.expanduser().resolve())

    @property
    def postgres(self) -> Path:
        return self.state / "postgres"

    @property
    def airflow(self) -> Path:
        return self.state / "airflow"

    @property
    def processes(self) -> Path:
        return self.state / "processes"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def mail(self) -> Path:
        return self.state / "mail"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def store(self) -> Path:
        return self.state / "store"

    @property
    def landing(self) -> Path:
        return self.state / "landing"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def ports(self) -> Path:
        return self.state / "ports.json"

    def make(self) -> None:
        """Create the folders that are missing; keys are for their owner only."""
        for folder in (self.processes, self.logs, self.airflow / "config", self.store, self.landing):
            folder.mkdir(parents=True, exist_ok=True)
        self.keys.mkdir(mode=0o700, exist_ok=True)


def repo_folder() -> Path:
    """The repository this package lies in (`<repo>/include/embedded`)."""
    return Path(__file__).resolve().parents[2]


def state_folder() -> Path:
    """PERENNIAL_STATE, or `.state` in the repository."""
    return Path(os.environ.get("PERENNIAL_STATE") or repo_folder() / ".state")
