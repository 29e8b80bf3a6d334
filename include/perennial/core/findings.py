"""What a validation found about a batch, and what follows from it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from perennial.spec import QUARANTINE_BATCH, REJECT_ROW, WARN


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An expectation or check over a whole batch: rows looked at, rows that failed it, and what follows where it failed.

    ``text`` says in a sentence what no count can. ``kwargs`` and ``description`` are those of a Great Expectations
    expectation.
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
        return value.replace("\0", "�").encode(errors="replace").decode()
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


def could_not_run(error: BaseException) -> Verdict:
    """A validation that could not run: it counts as failed."""
    text = f"The validation could not run: {type(error).__name__}: {error}"
    finding = Finding(
        expectation="validation", columns=(), severity=QUARANTINE_BATCH, success=False, rows=0, text=text[:2000]
    )  # fmt: skip
    return verdict_of([finding])
