"""Where the benchmark keeps its state: one folder for each number of countries, so that a repetition need not set up anew."""

import os
from dataclasses import dataclass
from pathlib import Path

from embedded.paths import Paths, repo_folder

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Folders:
    """The folders of one benchmark."""

    root: Path

    @classmethod
    def of(cls, countries: int) -> "Folders":
        """Those for so many countries, below BENCH_STATE or `.state/bench`."""
        state = Path(os.environ.get("BENCH_STATE") or repo_folder() / ".state" / "bench")
        return cls((state / f"{countries}-countries").resolve())

    @property
    def perennial(self) -> Paths:
        """The embedded stack that runs Perennial."""
        return Paths.at(self.root / "perennial", self.tree("perennial"))

    @property
    def textbook(self) -> Paths:
        """The embedded stack that runs the textbook DAG."""
        return Paths.at(self.root / "textbook", self.tree("textbook"))

    def tree(self, name: str) -> Path:
        """The deployed tree of a stack: the product's packages and the benchmark's specs."""
        return self.root / "trees" / name

    @property
    def facts(self) -> Path:
        """What the loops are told that ask no registry; its presence says that everything is set up."""
        return self.root / "facts.json"

    @property
    def ready_store(self) -> Path:
        """The store as every repetition finds it."""
        return self.root / "ready-store"

    @property
    def champions(self) -> Path:
        """The champions as joblib files, for those who keep theirs so."""
        return self.root / "joblib-champions"

    def scratch(self, name: str) -> Path:
        """A folder that a variant writes to."""
        return self.root / "scratch" / name


def plant(folder: Path, dags: list[Path]) -> None:
    """Lay out a deployed tree of links: the product's packages and plugins, the benchmark's package, these DAG files."""
    repo = repo_folder()
    links = {
        "plugins": repo / "plugins",
        "include/perennial": repo / "include" / "perennial",
        "include/embedded": repo / "include" / "embedded",
        "include/fleet": Path(__file__).resolve().parent,
        **{f"dags/{file.name}": file for file in dags},
    }
    for name, target in links.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
