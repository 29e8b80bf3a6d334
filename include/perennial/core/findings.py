"""What a validation found about a batch, and what follows from it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from perennial.failures import cut, plain, reason_of
from perennial.spec import QUARANTINE_BATCH, REJECT_ROW, WARN

Subject = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An expectation or check over a whole batch: rows looked at, rows that failed it, and what follows where it failed.

    ``text`` says in a sentence what no count can. ``kwargs`` and ``description`` are those of a Great Expectations
    expectation. ``confirms``: the batch before was kept aside for the same, so it is no surprise any more.
    """

    expectation: str
    columns: tuple[str, ...]
    severity: str
    success: bool
    rows: int
    unexpected: int = 0
    examples: tuple[str, ...] = ()
    text: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    confirms: bool = False

    @property
    def holds(self) -> bool:
        """Whether the batch is kept aside for it."""
        return not self.success and self.severity == QUARANTINE_BATCH

    @property
    def subject(self) -> Subject:
        """What it is about, in every batch alike."""
        return self.expectation, self.columns

    def __str__(self) -> str:
        if self.text:
            return self.text
        shown = f", such as {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.expectation} on {', '.join(self.columns)}: {self.unexpected:,} of {self.rows:,} rows fail it{shown}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a batch is accepted, without its rejected rows, or kept aside, and why."""

    state: str
    reason: str
    findings: tuple[Finding, ...]

    def report(self, profile: dict[str, Any]) -> dict[str, Any]:
        """What the ledger keeps of it: strict JSON."""
        made = {"findings": [asdict(finding) for finding in self.findings], "profile": profile}
        checked: dict[str, Any] = storable(json.loads(json.dumps(made, default=str)))
        return checked


def storable(value: Any) -> Any:
    """A value of JSON in which no text has a NUL or half a character: PostgreSQL keeps neither."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {storable(name): storable(each) for name, each in value.items()}
    return [storable(each) for each in value] if isinstance(value, list) else value


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """A batch is kept aside by any failed finding of that severity; what else failed is said of an accepted one, too."""
    failed = [finding for finding in findings if not finding.success]
    held = [str(finding) for finding in failed if finding.severity == QUARANTINE_BATCH]
    noticed = [f"rejected: {finding}" for finding in failed if finding.severity == REJECT_ROW]
    noticed += [f"noticed: {finding}" for finding in failed if finding.severity == WARN]
    state = "quarantined" if held else "accepted"
    return Verdict(state=state, reason=storable("; ".join(held or noticed)), findings=tuple(findings))


def deadly(deaths: int, ended: str, where: str) -> Verdict:
    """A batch that ended every process it was validated in, the last one as ``ended`` says, of a source that stands
    ``where``; with what to do about it."""
    if "time limit" in ended:
        fix = f"Look for a regex that backtracks or an expectation that never ends at {where}, or raise time_limit in checks"
    elif "SIGKILL" in ended:
        fix = "So the system ends what takes too much memory: give the worker more, or deliver fewer rows at a time"
    else:
        fix = f"See the end of that task's log, and what the expectations at {where} call"
    last = ended or "its task ended with it"
    return could_not_run(f"killed its validation {deaths} times, the last time {last}. {fix}, then validate it again.")


def could_not_run(why: BaseException | str) -> Verdict:
    """A validation that could not run: it counts as failed."""
    said = why if isinstance(why, str) else reason_of(why)
    text = f"The validation could not run: {said}"
    finding = Finding(
        expectation="validation", columns=(), severity=QUARANTINE_BATCH, success=False, rows=0, text=cut(text, 2000)
    )  # fmt: skip
    return verdict_of([finding])
