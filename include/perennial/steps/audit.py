"""Audit: whether what registry, lake and store hold keeps the rules, whoever wrote it and however it came there.

The database refuses most of this by itself; the audit looks at what is there, also past constraints that were switched off.
It reads and changes nothing, and may run beside everything else: rows are read at one moment, and what may lag is given time.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.catalog import Catalog
from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import (
    ArtifactError,
    FileRefused,
    ObjectMissing,
    OtherLibrary,
    RecipeMissing,
    SettingsError,
    SourceError,
    SourceMismatch,
    StoreError,
)
from perennial.recipe import frozen_of
from perennial.resources import Resources
from perennial.shell import postgres_source
from perennial.shell.database import Connection, connect, fetch, fetch_one, moment
from perennial.shell.frames import plain_frame
from perennial.shell.keys import read_private_key, read_public_keys
from perennial.shell.lake import GROUP_ROWS, open_batch, schema_of, tables
from perennial.shell.registry import Deployment, deployment_of
from perennial.shell.values import typed_texts
from perennial.spec import REMOVED, FileSource, Model, Source
from perennial.steps.batches import wanted
from perennial.steps.in_force import keys_in_force_twice
from perennial.steps.land_files import delivered
from perennial.steps.manifests import Pointer, checked_pointer, load_fit, manifest_of, pointer_key

RULES = {
    1: "a cell with a champion never has none, and never two",
    2: "the row is the commit: what a row names is in the store",
    3: "a move is conditional on the release it was judged against",
    4: "judged fits are compared, on rows neither has learned from",
    5: "a first model passes floor and baseline",
    6: "every change of the source is landed exactly once",
    7: "what is kept aside says why, and nobody reads it",
    8: "re-running is harmless: nothing is released or trained twice",
    9: "what readers load is signed by a trusted key",
    10: "every planned cell of an ended run has exactly one outcome",
    11: "what a person holds or takes back stays so",
}
ALWAYS = datetime(1900, 1, 1, tzinfo=UTC)
Changes = Callable[[datetime, datetime], Iterable[pd.DataFrame]]
POINTER = re.compile(r"pointers/([^/]+)/([^/]+)\.json")


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A rule that is broken: its number in RULES, where, and how, in one sentence."""

    rule: int
    where: str
    what: str

    def __str__(self) -> str:
        return f"Rule {self.rule}, {self.where}: {self.what}."


@dataclass(kw_only=True)
class Findings:
    """What an audit found, how much of what it looked at, and what it could not look at."""

    violations: list[Violation] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    unseen: list[str] = field(default_factory=list)
    signed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note_signer(self, document: bytes, keys: Sequence[Any], kind: str) -> None:
        """Note which key signed a document that is in force."""
        self.signed[artifacts.signer(document, keys) or "", kind] += 1

    def add(self, rule: int, where: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(rule=rule, where=where, what=what))

    def lines(self) -> list[str]:
        """One line per rule: how much was looked at, and how many violations there are; then what could not be seen."""
        counts = Counter(violation.rule for violation in self.violations)
        extents = {rule: text.format_map(self.seen) for rule, text in EXTENTS.items()}
        rules = [f"{rule:>2}  {RULES[rule]:<64}  {extents[rule]}: {counts[rule] or 'no'} violations" for rule in RULES]
        return [*rules, *self.unseen]


EXTENTS = {
    1: "{releases} releases of {cells} cells",
    2: "{artifacts} artifacts, {compactions} compactions",
    3: "{releases} releases, {by_hand} of them by hand",
    4: "{verdicts} verdicts",
    5: "{first_models} first models",
    6: "{batches} batches, {rows} rows, {compared} compared with their source",
    7: "{batches} batches, {snapshots} snapshots",
    8: "{releases} releases, {attempts} attempts",
    9: "{manifests} manifests, {pointers} pointers, {loaded} fits loaded",
    10: "{outcomes} outcomes of {runs} runs",
    11: "{releases} releases, {by_hand} of them by hand",
}


@dataclass(frozen=True, kw_only=True)
class Records:
    """Rows of the registry and the ledger at one moment, whose objects are looked at afterwards."""

    artifacts: list[Any]
    pointers: list[Any]
    batches: list[Any]
    files: list[Any]
    cursors: dict[str, datetime]
    compactions: list[Any]
    readable: list[Any]


def audit(resources: Resources, catalog: Catalog, *, deep: bool = False) -> list[Violation]:
    """Every violation of every rule that can be seen from outside; none in a healthy world."""
    return examine(resources, catalog, deep=deep).violations


def examine(resources: Resources, catalog: Catalog, *, deep: bool = False) -> Findings:
    """Audit, with the extent of it. ``deep`` also loads both fits of every champion, compares every compaction that is read
    with the batches it was made of, and looks for keys that are in force twice.

    A source that cannot be reached is named among what was not seen: that alone breaks no rule.
    """
    findings = Findings()
    database = connect(resources.database)
    try:
        with moment(database):
            records = _read(database, findings)
        _check_artifacts(resources, catalog, records.artifacts, findings, deep)
        _check_pointers(resources, database, records.pointers, findings)
        findings.unseen += _left_to_sign(resources, findings)
    finally:
        database.close()
    for compaction in records.compactions:
        _check_compaction(resources, compaction, findings, deep)
    for name in sorted({*records.cursors, *(batch.source for batch in records.batches)}):
        _check_source(resources, name, catalog.sources.get(name), records, findings)
        if deep:
            _check_in_force(resources, catalog.sources.get(name), records, findings)
    return findings


def _read(database: Connection, findings: Findings) -> Records:
    by_rule = [  # the first one looks at locks, which have no moment: it is asked as near to it as can be
        (10, fetch(database, "audit_attempts_at_large")),
        (1, fetch(database, "audit_champions")),
        (2, fetch(database, "audit_dangling")),
        (3, fetch(database, "audit_moves")),
        (4, fetch(database, "audit_comparisons")),
        (5, fetch(database, "audit_first_models")),
        (6, fetch(database, "audit_ledger")),
        (6, fetch(database, "audit_files")),
        (6, fetch(database, "audit_compactions")),
        (7, fetch(database, "audit_quarantine")),
        (8, fetch(database, "audit_repetitions")),
        (10, fetch(database, "audit_outcomes")),
        (11, fetch(database, "audit_holds")),
    ]
    for rule, rows in by_rule:
        for row in rows:
            findings.add(rule, row.place, row.what)
    _check_balance(fetch(database, "audit_balance"), findings)
    findings.seen.update(fetch_one(database, "audit_extent")._asdict())
    return Records(
        artifacts=fetch(database, "audit_artifacts"),
        pointers=fetch(database, "audit_pointers"),
        batches=fetch(database, "audit_batches"),
        files=fetch(database, "audit_landed_files"),
        cursors={row.source: row.position for row in fetch(database, "audit_cursors")},
        compactions=fetch(database, "audit_compacted"),
        readable=fetch(database, "audit_readable"),
    )


def _check_balance(rows: list[Any], findings: Findings) -> None:
    """Landed is accepted, quarantined, retracted, or not decided yet; unreadable rows are among the quarantined."""
    for row in rows:
        told = row.undecided + row.accepted + row.quarantined + row.retracted
        if row.landed != told:
            findings.add(7, f"{row.source}/{row.country}", f"{row.landed} rows were landed, and {told} are accounted for")


def _check_artifacts(resources: Resources, catalog: Catalog, rows: list[Any], findings: Findings, deep: bool) -> None:
    keys = read_public_keys(resources.public_keys)
    models = {name: model for specs in catalog.fleets.values() for name, model in specs.models.items()}
    for row in rows:
        findings.seen["artifacts"] += 1
        sound = _check_artifact(resources, keys, row, findings)
        if deep and sound and row.is_champion:
            _check_loading(resources, keys, row, models.get(row.model), findings)


def _check_artifact(resources: Resources, keys: Any, row: Any, findings: Findings) -> bool:
    """Whether a version's manifest and both files are there, unaltered, signed, and this version's."""
    where = f"{Cell(row.model, row.country)} version {row.id[:12]}"
    missing = 1 if row.is_champion else 2
    try:
        document = resources.store.get(row.artifact_key)
        if artifacts.sha256(document) != row.sha256:
            findings.add(2, where, f"the manifest {row.artifact_key} is not the one on record")
            return False
        findings.seen["manifests"] += 1
        payload = artifacts.verify(document, keys, "manifest")
        findings.note_signer(document, keys, "manifests")
        artifacts.check_deployment(payload, row.deployment, Cell(row.model, row.country))
        size = len(document) + sum(_checked_size(resources, entry, row) for entry in artifacts.entries_of(payload))
    except ObjectMissing as error:
        findings.add(missing, where, f"an object of its artifact is missing: {error}".rstrip("."))
        return False
    except ArtifactError as error:
        findings.add(9, where, str(error).rstrip("."))
        return False
    except StoreError as error:
        findings.add(2, where, str(error).rstrip("."))
        return False
    said = (payload["model"], payload["country"], payload["version"], payload["recipe"])
    if said != (row.model, row.country, row.id, row.recipe):
        findings.add(9, where, f"its manifest is that of {said[0]}/{said[1]} version {said[2][:12]}, recipe {said[3][:12]}")
    elif size != row.size:
        findings.add(2, where, f"its objects have {size} bytes, {row.size} are on record")
    return True


def _checked_size(resources: Resources, entry: dict[str, Any], row: Any) -> int:
    data = resources.store.get(entry["key"])
    if artifacts.sha256(data) != entry["sha256"] or len(data) != entry["size"]:
        raise StoreError(f"the file {entry['key']} is not what its manifest says")
    return len(data)


def _check_loading(resources: Resources, keys: Any, row: Any, model: Model | None, findings: Findings) -> None:
    cell = Cell(row.model, row.country)
    manifest = manifest_of(cell, row)
    for which in ("judged", "served"):
        try:
            frozen = frozen_of(model, row.recipe, row.parameters) if model else None
            load_fit(resources.store, keys, manifest, which, model.trusted if model else (), frozen)
            findings.seen["loaded"] += 1
        except OtherLibrary as error:
            findings.unseen.append(f"The {which} fit of {cell} was not loaded: {error}")
        except (ArtifactError, RecipeMissing) as error:
            findings.add(9, f"{cell} version {row.id[:12]}", f"its {which} fit cannot be loaded: {error}".rstrip("."))


def _check_pointers(resources: Resources, database: Connection, rows: list[Any], findings: Findings) -> None:
    keys, deployment = read_public_keys(resources.public_keys), deployment_of(database)
    due = {Cell(row.model, row.country): row for row in rows}
    there = {Cell(*parts.groups()) for key in resources.store.keys("pointers/") if (parts := POINTER.fullmatch(key))}
    for cell in sorted({*due, *there}):
        row, where = due.get(cell), f"the pointer of {cell}"
        try:
            document = resources.store.get(pointer_key(cell))
            pointer = checked_pointer(document, keys, cell)
        except ObjectMissing:
            if row is not None and row.is_settled:
                findings.add(2, where, f"it is missing, release {row.seq} is in force")
            continue
        except ArtifactError as error:
            findings.add(9, where, str(error).rstrip("."))
            continue
        findings.seen["pointers"] += 1
        findings.note_signer(document, keys, "pointers")
        if pointer.manifest.deployment not in ("", deployment.id):
            findings.add(9, where, f"it is of deployment {pointer.manifest.deployment}, and this is {deployment.id}")
        else:
            _check_pointer(database, deployment, cell, pointer, row, findings)


def _left_to_sign(resources: Resources, findings: Findings) -> list[str]:
    """What keys other than the signing key still sign, and which pointers are of before deployments had names."""
    current = artifacts.key_id(read_private_key(resources.signing_key).public_key())
    said = []
    for key in sorted({key for key, _ in findings.signed} - {current}):
        manifests, pointers = findings.signed[key, "manifests"], findings.signed[key, "pointers"]
        said.append(
            f"Key {key} is not the signing key and still signs {manifests} manifests and "
            f"{pointers} pointers. Before it is "
            "taken out of the trusted keys: python -m perennial resign."
        )
    if findings.seen["nameless"]:
        said.append(f"{findings.seen['nameless']} pointers name no deployment yet. The DAG maintain writes them again.")
    return said


def _check_pointer(
    database: Connection, deployment: Deployment, cell: Cell, pointer: Pointer, row: Any | None, findings: Findings
) -> None:
    where, (generation, seq) = f"the pointer of {cell}", pointer.mark
    findings.seen["nameless"] += not pointer.manifest.deployment
    if generation > deployment.generation:
        findings.add(2, where, f"it is of generation {generation}, the registry's is {deployment.generation}")
    elif row is not None and seq < row.seq and row.is_settled:
        findings.add(2, where, f"it names release {seq}, release {row.seq} is in force")
    elif row is None or seq > row.seq:
        _check_ahead(database, cell, seq, findings)
    elif seq == row.seq and not _is_of(pointer, row):
        now = fetch_one(database, "champion_of", model=cell.model, country=cell.country)
        if not _is_of(pointer, now):
            version = pointer.manifest.version[:12]
            findings.add(2, where, f"it names version {version}, release {seq} is of {row.version[:12]}")


def _is_of(pointer: Pointer, row: Any) -> bool:
    """Whether a pointer names the version of a row, by the manifest in force."""
    named = pointer.manifest
    return (named.version, named.key, named.sha256) == (row.version, row.artifact_key, row.sha256)


def _check_ahead(database: Connection, cell: Cell, seq: int, findings: Findings) -> None:
    """A pointer past the moment's last release: the cell may have moved since; a pointer never leads."""
    champion = fetch_one(database, "champion_of", model=cell.model, country=cell.country)
    if champion is None or seq > champion.seq:
        findings.add(
            2, f"the pointer of {cell}", f"it names release {seq}, the last one is {champion.seq if champion else 'none'}"
        )


def _check_compaction(resources: Resources, row: Any, findings: Findings, deep: bool) -> None:
    """Whether a compaction that is read is there and unaltered, and holds the rows of its batches as they stand."""
    where = f"the compaction of {row.source}/{row.country} batches {row.first_seq} to {row.last_seq}"
    try:
        file = open_batch(resources.store, row.object_key, row.sha256)
    except (StoreError, pa.ArrowInvalid) as error:
        findings.add(2, where, str(error).rstrip("."))
        return
    findings.seen["compactions"] += 1
    if file.metadata.num_rows != row.rows:
        findings.add(6, where, f"its object holds {file.metadata.num_rows} rows, {row.rows} are on record")
    elif deep and not _is_made_of(resources, file, row.originals):
        findings.add(6, where, "it does not hold the rows of its batches in their order")


def _is_made_of(resources: Resources, file: pq.ParquetFile, originals: list[dict[str, str]]) -> bool:
    """Whether a file holds the rows of some batches one after another; what cannot be read is found elsewhere."""
    names = file.schema_arrow.names
    held, waiting = tables(file, GROUP_ROWS), file.schema_arrow.empty_table()
    for original in originals:
        try:
            batch = open_batch(resources.store, original["object_key"], original["sha256"])
        except (StoreError, pa.ArrowInvalid):
            return True
        for table in tables(batch, GROUP_ROWS, names):
            while waiting.num_rows < table.num_rows and (more := next(held, None)):
                waiting = pa.concat_tables([waiting, more])
            if not _as_read(waiting.slice(0, table.num_rows)).equals(_as_read(table)):
                return False
            waiting = waiting.slice(table.num_rows)
    return waiting.num_rows == 0  # type: ignore[no-any-return]


def _as_read(table: pa.Table) -> pd.DataFrame:
    """A table in which values that are no numbers equal each other, and whole numbers stay whole."""
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    return frame


def _check_source(resources: Resources, name: str, source: Source | None, records: Records, findings: Findings) -> None:
    """Each batch's object; that no change is landed twice; and, where the source answers, that none is missing.

    Works landing by landing, so that memory holds one landing's keys.
    """
    batches = [batch for batch in records.batches if batch.source == name]
    cursor = records.cursors.get(name, ALWAYS)
    with ExitStack() as stack:
        changes = _reached(stack, resources, name, source, records, findings)
        at = ALWAYS
        for (_, upper), landing in itertools.groupby(batches, key=lambda batch: (batch.lower, batch.upper)):
            landed = _landed_changes(resources, source, list(landing), findings)
            if source is not None:
                _check_doubles(source, landed, findings)
                _check_against_source(changes, source, at, upper, landed, findings)
            at = max(at, upper)
        if source is not None and at < cursor:
            _check_against_source(changes, source, at, cursor, _no_changes(source), findings)


def _check_in_force(resources: Resources, source: Source | None, records: Records, findings: Findings) -> None:
    """No key of a table is in force twice. Files may hold a key for several countries."""
    if source is None or isinstance(source, FileSource):
        return
    batches = [batch for batch in records.readable if batch.source == source.name]
    try:
        for what in keys_in_force_twice(resources, source, batches):
            findings.add(6, source.name, what)
    except (StoreError, SourceMismatch, pa.ArrowInvalid) as error:
        findings.unseen.append(f"Whether keys of source {source.name} are in force once was not looked at: {error}")


def _reached(
    stack: ExitStack, resources: Resources, name: str, source: Source | None, records: Records, findings: Findings
) -> Changes | None:
    """What reads the source's changes of an interval; None, with the reason among what was not seen, without a way to it."""
    if source is None:
        findings.unseen.append(f"Source {name} has no spec: its batches were not compared with it.")
        return None
    try:
        if isinstance(source, FileSource):
            files = [file for file in records.files if file.source == name]
            return partial(delivered, resources.source_store(source.connection), source, files)
        connection = stack.enter_context(postgres_source.connected(resources.source_dsn(source.connection), source))
        return partial(_extracted, connection, source)
    except (SettingsError, SourceError) as error:
        findings.unseen.append(f"Source {name} was not compared with its batches: {error}")
        return None


def _extracted(connection: Any, source: Source, lower: datetime, upper: datetime) -> Iterable[pd.DataFrame]:
    names = _identity(source)
    told = {*names, source.country}
    columns = tuple(column for column in source.columns if column.name in told)
    narrow = replace(source, columns=columns, deleted="")
    for reading in postgres_source.extract(connection, narrow, lower, upper):
        yield wanted(reading.rows, source).select(names).to_pandas()


def _landed_changes(resources: Resources, source: Source | None, landing: list[Any], findings: Findings) -> pd.DataFrame:
    """Keys, ``changed_at`` and ``removed`` of a landing's batches, each batch's object checked against its row."""
    parts = [plain_frame(_no_rows(source, [*_identity(source), REMOVED]))] if source else [pd.DataFrame()]
    for batch in landing:
        where = f"{batch.source}/{batch.country} batch {batch.seq}"
        try:
            file = open_batch(resources.store, batch.object_key, batch.sha256)
        except (StoreError, pa.ArrowInvalid) as error:
            findings.add(6, where, str(error).rstrip("."))
            continue
        if file.metadata.num_rows != batch.rows:
            findings.add(6, where, f"its object holds {file.metadata.num_rows} rows, {batch.rows} are on record")
        if source is None:
            continue
        names = [*_identity(source), REMOVED]
        read = pa.concat_tables([_no_rows(source, names), *tables(file, GROUP_ROWS, names)], promote_options="permissive")
        changes = plain_frame(read)
        moments = changes[source.changed_at]
        outside = int(((moments < batch.lower) | (moments >= batch.upper)).sum())
        if outside:
            findings.add(6, where, f"{outside} of its changes are not from {batch.lower} to {batch.upper}")
        if batch.rejected_rows is not None:
            _check_split(resources, source, batch, changes[_identity(source)], findings)
        parts += [changes, *_unreadable_changes(resources, source, batch, findings)]
    return pd.concat(parts)


def _unreadable_changes(resources: Resources, source: Source, batch: Any, findings: Findings) -> list[pd.DataFrame]:
    """Keys and ``changed_at`` of a batch's rows that cannot be read, as far as those can; none is removed."""
    where = f"{batch.source}/{batch.country} batch {batch.seq}"
    if batch.unreadable_key is None:
        return []
    try:
        file = open_batch(resources.store, batch.unreadable_key, batch.unreadable_sha256)
    except (StoreError, pa.ArrowInvalid) as error:
        findings.add(7, where, f"its unreadable rows are not kept: {str(error).rstrip('.')}")
        return []
    if file.metadata.num_rows != batch.unreadable_rows:
        findings.add(7, where, f"{file.metadata.num_rows} rows are unreadable, {batch.unreadable_rows} are on record")
    names = _identity(source)
    if not set(names) <= set(file.schema_arrow.names):
        return []
    typed = typed_texts(file.read(columns=names, use_threads=False), source, names)
    known = pa.table(typed).select(names).drop_null().cast(_no_rows(source, names).schema)
    return [plain_frame(known).assign(**{REMOVED: False})]


def _check_split(resources: Resources, source: Source, batch: Any, landed: pd.DataFrame, findings: Findings) -> None:
    """The accepted and the rejected rows of a batch are its rows, each in one of the two objects."""
    where = f"{batch.source}/{batch.country} batch {batch.seq}"
    parts = [_no_changes(source)]
    for name in ("accepted", "rejected"):
        rows, key, digest = (getattr(batch, f"{name}_{fact}") for fact in ("rows", "key", "sha256"))
        if not rows:
            continue
        try:
            file = open_batch(resources.store, key, digest)
        except (StoreError, pa.ArrowInvalid) as error:
            findings.add(7, where, f"its {name} rows cannot be read: {str(error).rstrip('.')}")
            return
        if file.metadata.num_rows != rows:
            findings.add(7, where, f"{file.metadata.num_rows} rows are {name}, {rows} are on record")
        parts.append(plain_frame(file.read(columns=[*source.key, source.changed_at], use_threads=False)))
    told = pd.concat(parts)[list(landed.columns)].sort_values([*landed.columns]).reset_index(drop=True)
    if not told.equals(landed.astype(told.dtypes).sort_values([*landed.columns]).reset_index(drop=True)):
        findings.add(7, where, "its accepted and its rejected rows together are not what was landed")


def _no_changes(source: Source) -> pd.DataFrame:
    return plain_frame(_no_rows(source, _identity(source)))


def _no_rows(source: Source, names: list[str]) -> pa.Table:
    return schema_of(source).empty_table().select(names)


def _identity(source: Source) -> list[str]:
    """The columns that identify a change, in the spec's order."""
    return [column.name for column in source.columns if column.name in {*source.key, source.changed_at}]


def _check_doubles(source: Source, landed: pd.DataFrame, findings: Findings) -> None:
    """No change is landed twice, but for those that say of another country that their row has left it."""
    own = landed if isinstance(source, FileSource) else landed[~landed[REMOVED].astype(bool)]
    again = own[own.duplicated(_identity(source))]
    if len(again):
        findings.add(6, source.name, f"{len(again)} changes are landed twice, such as {_named(again)}")


def _check_against_source(
    changes: Changes | None, source: Source, lower: datetime, upper: datetime, landed: pd.DataFrame, findings: Findings
) -> None:
    """The source's changes from ``lower`` to ``upper`` are among the landed ones. It may have lost old ones since."""
    if changes is None:
        return
    try:
        there = pd.concat([_no_changes(source), *changes(lower, upper)])
    except (StoreError, FileRefused) as error:
        findings.unseen.append(f"Source {source.name} was not compared with its batches up to {upper}: {error}")
        return
    findings.seen["compared"] += len(there)
    identity = _identity(source)
    sides = there.merge(landed[identity].drop_duplicates(), how="left", on=identity, indicator="side")
    missing = there[(sides["side"] == "left_only").to_numpy()]
    if len(missing):
        findings.add(6, source.name, f"{len(missing)} changes up to {upper} were never landed, such as {_named(missing)}")


def _named(changes: pd.DataFrame) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes.iloc[0].items())
