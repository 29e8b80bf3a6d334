"""Messages: who is told what of a run, in plain text that can be read on a phone."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from perennial.catalog import FleetSpecs
from perennial.cell import Cell
from perennial.spec import Owner

TOLD = {"failed": "Failed", "blocked": "Blocked", "published": "Published", "rebuilt": "Rebuilt"}
TO_DO = {
    "failed": "Failed cells keep their champions, unless those cannot be read, and are tried again when new rows come. To try "
    "at once, mend the cause and trigger retrain_{fleet} for them with force.",
    "blocked": "Blocked cells keep their champions until the blocker is lifted or runs out.",
    "rebuilt": "Rebuilt cells have the same champion as before, fitted again by the scikit-learn that is installed now, for "
    "what the former one has fitted cannot be read by it. Readers with the former scikit-learn keep the release before: "
    "upgrade them when it suits you.",
}
TO_DO_LOST = (
    "Readers that have loaded such a champion keep it while they run. Restore its objects from a "
    "backup of the store, or "
    "trigger retrain_{fleet} for these cells: without a champion that can be read, a challenger is "
    "judged as a first model "
    "is. The audit lists all that is missing or altered."
)
TO_DO_NOT_REBUILT = (
    "What another scikit-learn has fitted is there for readers who have that. docs/upgrade.md says for each reason what "
    "to do; then trigger retrain_{fleet} for these cells with force."
)
LOOK_AT_HELD = (
    "Held batches wait for a person, and the owner of their source is notified, too. Named above are source/country and "
    "number: trigger quarantine_<source> with action look, that country and batch, then with accept, validate again or "
    "extract again."
)
NO_PLAN = "The plan task failed, so nothing was trained; champions stay in force. See its log, then trigger retrain_{fleet}."
MOST_CELLS = 20
MOST_CAUSES = 10
REASON_HEAD, REASON_TAIL = 260, 140  # both ends: the error's first words, and its fix, which stands last
VARYING = re.compile(r"\b[0-9a-f]{8,}\b|\d+(\.\d+)?")
SECRET = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?i:(?<=password=)|(?<=secret=)|(?<=token=)|(?<=key=))[^\s,;&]+")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to. ``outcomes`` is None where it has no plan.

    ``limit`` is the share of cells that may fail; ``why_no_plan``: the sentence that its plan task
    failed with, where that is known.
    """

    run_id: str
    url: str
    outcomes: list[Any] | None
    limit: float
    why_no_plan: str = ""

    @property
    def is_beyond_limit(self) -> bool:
        """Whether the run itself counts as failed."""
        if self.outcomes is None:
            return True
        failed = sum(outcome.state == "failed" for outcome in self.outcomes)
        return bool(failed > self.limit * len(self.outcomes))


@dataclass(frozen=True, kw_only=True)
class Message:
    """What one owner is told of one run. ``owner`` is a name of ``owners_of``."""

    owner: str
    tier: int
    subject: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A champion that cannot be read: why, and whether readers have a model again.

    ``is_there``: it is neither missing nor altered, and another scikit-learn than has fitted it is installed.
    """

    cell: Cell
    what: str
    is_served: bool
    is_there: bool = False


def owners_of(specs: FleetSpecs) -> dict[str, Owner]:
    """A fleet's owners by the name they are told under, each with its most urgent tier.

    The same name and addresses are one owner. Where a name has several sets of addresses, the owner of models is named
    with the first of them.
    """
    stated = [(specs.fleet.name, specs.fleet.owner)]
    stated += [(f"{specs.fleet.name}/{name}", specs.models[name].owner) for name in sorted(specs.models)]
    found: dict[tuple[str, frozenset[str]], tuple[str, Owner]] = {}
    for scope, owner in stated:
        first, known = found.setdefault(_identity(owner), (scope, owner))
        found[_identity(owner)] = (first, replace(known, tier=min(known.tier, owner.tier)))
    namesakes = Counter(name for name, _ in found)
    return {name if namesakes[name] == 1 else f"{name} ({scope})": owner for (name, _), (scope, owner) in found.items()}


def _identity(owner: Owner) -> tuple[str, frozenset[str]]:
    return owner.name, frozenset(owner.alerts)


def messages_of(specs: FleetSpecs, result: Result) -> list[Message]:
    """One message for each owner that has something failed, blocked or published, tier 1 first.

    The fleet's owner answers for cells without a healthy spec, and for the whole run when it counts as failed.
    """
    names = {_identity(owner): name for name, owner in owners_of(specs).items()}
    own: dict[str, list[Any]] = defaultdict(list)
    for outcome in result.outcomes or ():
        spec = specs.models.get(outcome.model, specs.fleet)
        own[names[_identity(spec.owner)]].append(outcome)
    if result.is_beyond_limit:
        own[names[_identity(specs.fleet.owner)]] = list(result.outcomes or ())
    made = [_message(specs, result, name, owner, own[name]) for name, owner in owners_of(specs).items() if name in own]
    return sorted((message for message in made if message is not None), key=lambda message: (message.tier, message.owner))


def messages_of_losses(specs: FleetSpecs, losses: list[Loss]) -> list[Message]:
    """One message for each owner whose champions cannot be read."""
    names = {_identity(owner): name for name, owner in owners_of(specs).items()}
    own: dict[str, list[Loss]] = defaultdict(list)
    for loss in losses:
        own[names[_identity(specs.models[loss.cell.model].owner)]].append(loss)
    return [
        _message_of_losses(specs.fleet.name, name, owner, own[name]) for name, owner in owners_of(specs).items() if name in own
    ]


def _message_of_losses(fleet: str, name: str, owner: Owner, losses: list[Loss]) -> Message:
    without = sum(not loss.is_served for loss in losses)
    subject = f"[{fleet}] {counted(len(losses), 'champion')} cannot be read, {without} without a successor"
    lines = [f"{loss.cell}: {short(loss.what)}" for loss in losses[:MOST_CELLS]]
    lines += [f"and {len(losses) - MOST_CELLS} more"] if len(losses) > MOST_CELLS else []
    advice = {TO_DO_NOT_REBUILT if loss.is_there else TO_DO_LOST for loss in losses}
    to_do = "\n\n".join(text.format(fleet=fleet) for text in sorted(advice))
    body = f"{bullets('Champions', lines)}\n\n{to_do}\n"
    return Message(owner=name, tier=owner.tier, subject=subject, body=body)


def _message(specs: FleetSpecs, result: Result, name: str, owner: Owner, outcomes: list[Any]) -> Message | None:
    fleet = specs.fleet.name
    if result.outcomes is None:
        subject = f"[{fleet}] run without a plan, nothing was trained"
        body = _no_plan(fleet, result.why_no_plan)
    elif not any(_ending(outcome) in TOLD for outcome in outcomes):
        return None
    else:
        subject = f"[{fleet}] {_headline(outcomes)}"
        whole = result.is_beyond_limit and _identity(owner) == _identity(specs.fleet.owner)
        body = _body(fleet, result, outcomes, whole)
    where = result.url or "Airflow's page of the run"
    return Message(owner=name, tier=owner.tier, subject=subject, body=f"{body}\n\nRun {result.run_id}:\n{where}\n")


def _no_plan(fleet: str, why: str) -> str:
    text = NO_PLAN.format(fleet=fleet)
    return "\n\n".join([bullets("Why", [short(why)]), text]) if why else text


def _ending(outcome: Any) -> str:
    """How a cell ended, in the words of a message: its outcome's state, or that its champion was rebuilt."""
    is_rebuilt = outcome.state == "published" and outcome.kind == "rebuild"
    return "rebuilt" if is_rebuilt else str(outcome.state)


def _headline(outcomes: list[Any]) -> str:
    """Such as ``3 of 50 cells failed, 12 published``."""
    numbers = Counter(map(_ending, outcomes))
    first, *others = [state for state in TOLD if numbers[state]]
    rest = "".join(f", {numbers[state]} {state}" for state in others)
    return f"{numbers[first]} of {counted(len(outcomes), 'cell')} {first}{rest}"


def _body(fleet: str, result: Result, outcomes: list[Any], is_whole_run: bool) -> str:
    parts = []
    if is_whole_run:
        parts.append(f"More cells failed than the fleet's limit of {result.limit:.0%} allows: the run counts as failed.")
    to_do = []
    for state, title in TOLD.items():
        rows = [outcome for outcome in outcomes if _ending(outcome) == state]
        if rows:
            lines = [_cells(rows, _gain)] if state == "published" else _by_cause(rows)
            parts.append(bullets(title, lines))
            to_do += [TO_DO[state].format(fleet=fleet)] if state in TO_DO else []
    held = [outcome for outcome in outcomes if outcome.held and outcome.state not in TOLD]
    if held:
        parts.append(bullets("Waiting for rows that are held", _by_cause([row._replace(reason=row.held) for row in held])))
        to_do.append(LOOK_AT_HELD)
    return "\n\n".join([*parts, bullets("What to do", to_do) if to_do else "There is nothing to do."])


def bullets(title: str, lines: list[str]) -> str:
    """A titled list of lines."""
    return "\n".join([f"{title}:", *(f"- {line}" for line in lines)])


def _by_cause(rows: list[Any]) -> list[str]:
    """One line per cause, the commonest first: ``price: GB, FR (2 cells): ExamplesError: …``."""
    causes: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        causes[_cause(row)].append(row)
    ordered = sorted(causes.values(), key=len, reverse=True)
    rest = sum(len(alike) for alike in ordered[MOST_CAUSES:])
    lines = [_cause_line(alike) for alike in ordered[:MOST_CAUSES]]
    return [*lines, f"and {counted(rest, 'cell')} for {counted(len(ordered) - MOST_CAUSES, 'other cause')}"] if rest else lines


def _cause(row: Any) -> str:
    """A reason without what differs from cell to cell: its name, numbers, hashes."""
    return VARYING.sub("#", row.reason.replace(f"{row.model}/{row.country}", "the cell"))


def _cause_line(alike: list[Any]) -> str:
    number = f" ({len(alike)} cells)" if len(alike) > 1 else ""
    example = "e.g. " if len({row.reason for row in alike}) > 1 else ""
    return f"{_cells(alike, lambda row: str(row.country))}{number}: {example}{short(alike[0].reason)}"


def _cells(rows: list[Any], say: Callable[[Any], str]) -> str:
    """Such as ``price: GB, FR; basket: GB and 37 more``."""
    shown = groupby(rows[:MOST_CELLS], key=lambda row: row.model)
    text = "; ".join(f"{model}: {', '.join(say(row) for row in cells)}" for model, cells in shown)
    return f"{text} and {len(rows) - MOST_CELLS} more" if len(rows) > MOST_CELLS else text


def _gain(row: Any) -> str:
    if row.champion is None:
        return f"{row.country} first model"
    return f"{row.country} {row.gain:+.1%}" if row.gain is not None else str(row.country)


def short(reason: str) -> str:
    """A reason in one line without credentials, its middle left out when it is very long."""
    line = SECRET.sub("***", " ".join(reason.split()))
    if len(line) <= REASON_HEAD + REASON_TAIL:
        return line
    return f"{line[:REASON_HEAD]} [...] {line[-REASON_TAIL:]}"


def counted(number: int, thing: str, things: str = "") -> str:
    """Such as ``3 cells``."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"
