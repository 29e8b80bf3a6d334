"""What a kill came to: measured from the signal on, kept, and shown as a table."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A kill and its recovery. Seconds are from the signal to the run's last outcome, and to the end of its DAG run."""

    killed: str
    moment: str
    goes_on: str
    outcomes: dict[str, int]
    seconds_to_outcomes: float
    seconds_to_end: float
    violations: int


HEAD = ("killed", "amidst", "goes on", "outcomes", "all cells decided after", "run ended after", "violations")


def table(kills: list[Kill]) -> str:
    """The kills as a Markdown table."""
    rows = [HEAD, ("---",) * len(HEAD), *map(_cells, kills)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(kill: Kill) -> tuple[str, ...]:
    outcomes = ", ".join(f"{number} {state}" for state, number in sorted(kill.outcomes.items()))
    seconds = (f"{value:.1f} s" for value in (kill.seconds_to_outcomes, kill.seconds_to_end))
    return (kill.killed, kill.moment, kill.goes_on, outcomes, *seconds, str(kill.violations))


def keep(kills: list[Kill], file: Path) -> None:
    """Write the kills as JSON, and as a table beside it."""
    file.write_text(json.dumps([asdict(kill) for kill in kills], indent=2) + "\n")
    file.with_suffix(".md").write_text(table(kills) + "\n")
