"""Validation beside the same checks in plain pandas and in pandera: seconds, and the peak memory of a large batch.

make bench-validation

Three cases: 2,000,000 rows × 15 columns × 15 expectations over 20 countries with a verdict for each; twenty small batches of
1,000 rows each; one batch of 5,000,000 rows, through the real step. Imports are not counted. pandera is measured where it is
installed, which the product does not need.
"""

import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from embedded.postgres import Postgres
from machine import machine, peak_mb
from perennial import QUARANTINE_BATCH, Column, Owner, Source
from perennial.core.copies import repeated
from perennial.core.expectations import Suite
from perennial.core.findings import verdict_of
from perennial.core.profiles import Past, compare
from perennial.core.trials import Trial
from perennial.resources import Resources
from perennial.shell.database import connect, migrate, run
from perennial.shell.lake import BatchWriter, schema_of
from perennial.shell.store import open_store
from perennial.steps.batches import Landed
from perennial.steps.landing import stored
from perennial.steps.validate import TABLE_ROWS, validate

RESULTS = Path(__file__).parent / "results"
CLOCK = datetime(2026, 3, 1, tzinfo=UTC)
NUMBERS = [f"number_{n}" for n in range(6)]
NO_HASHES = np.empty(0, dtype=np.uint64)


def expectations() -> list[Any]:
    """Fifteen, as a data engineer would write them; what the columns imply comes on top."""
    import great_expectations.expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("number_0", "count_0", "kind", "code")),
        *(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-50, max_value=50) for name in NUMBERS[:5]),
        gxe.ExpectColumnValuesToBeBetween(column="count_0", min_value=0, max_value=1000),
        gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["a", "b", "c", "d"]),
        gxe.ExpectColumnValuesToBeInSet(column="flag", value_set=["yes", "no"]),
        gxe.ExpectColumnValuesToMatchRegex(column="code", regex=r"^\d{6}$", severity=QUARANTINE_BATCH),
        gxe.ExpectColumnValuesToMatchRegex(column="part", regex=r"^X\d{5}$", severity=QUARANTINE_BATCH),
        gxe.ExpectColumnValueLengthsToBeBetween(column="code", max_value=10),
    ]


source = Source(
    name="bench",
    owner=Owner("bench"),
    connection="bench_db",
    table="bench",
    key=("id",),
    event_time="seen_at",
    changed_at="changed_at",
    country="country",
    countries={f"C{n:02}": f"{chr(65 + n)}{chr(65 + n)}" for n in range(20)},
    columns=(
        Column("id", "int64"), Column("changed_at", "timestamp"), Column("seen_at", "timestamp"), Column("country", "string"),
        *(Column(name, "float64") for name in NUMBERS), Column("count_0", "int64"),
        *(Column(name, "string") for name in ("kind", "flag", "code", "part")),
    ),
    expectations=expectations,
)  # fmt: skip


def rows(number: int, seed: int) -> pa.Table:
    """Rows that pass, of 15 columns."""
    random = np.random.default_rng(seed)
    seen = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(random.integers(0, 30 * 86_400, number)), unit="s")
    frame: dict[str, Any] = {
        "id": seed * number + np.arange(number),
        "changed_at": seen,
        "seen_at": seen,
        "country": f"C{seed % 20:02}",
    }
    frame |= {"removed": False}
    frame |= {name: random.normal(size=number) for name in NUMBERS} | {"count_0": random.integers(0, 1000, number)}
    frame |= {"kind": random.choice(list("abcd"), number), "flag": random.choice(["yes", "no"], number)}
    frame |= {"code": random.choice([f"{n:06}" for n in range(5000)], number)}
    frame |= {"part": random.choice([f"X{n:05}" for n in range(5000)], number)}
    return pa.Table.from_pandas(pd.DataFrame(frame), schema=schema_of(source), preserve_index=False)


def ours(tables: list[pa.Table], suite: Suite) -> list[str]:
    """A verdict per table with findings, copies, profile and comparison: everything but reading and recording."""
    trials = [Trial(source, source.checks, suite.rules) for _ in tables]
    for pile in _piles(tables):
        for number, tallies in zip(pile, suite.tallies([tables[number] for number in pile]), strict=True):
            trials[number].add(tables[number], tallies)
    states = []
    for trial in trials:
        trial.copies = repeated(np.concatenate(trial.hashes), NO_HASHES)
        unusual = compare(trial.profiler.profile(), CLOCK, Past(), source.checks)
        states.append(verdict_of([*trial.findings(), *unusual]).state)
    return states


def _piles(tables: list[pa.Table]) -> list[list[int]]:
    piles: list[list[int]] = [[]]
    for number, table in enumerate(tables):
        if sum(tables[other].num_rows for other in piles[-1]) + table.num_rows > TABLE_ROWS:
            piles.append([])
        piles[-1].append(number)
    return piles


def plain(tables: list[pa.Table]) -> list[str]:
    """The same expectations, those that the columns imply included, written by hand for one table after the other."""
    return ["accepted" if not any(_plain_counts(table.to_pandas())) else "quarantined" for table in tables]


def _plain_counts(frame: pd.DataFrame) -> list[int]:
    required = frame[["id", "seen_at", "changed_at"]].isna().any(axis=1)
    texts = [frame[name] for name in ("country", "kind", "flag", "code", "part")]
    bad = [required, frame["seen_at"] > CLOCK + timedelta(days=1), np.isinf(frame[NUMBERS]).any(axis=1)]
    bad += [each.str.len() > 10_000 for each in texts]
    bad += [frame[name].isna() for name in ("number_0", "count_0", "kind", "code")]
    bad += [~frame[name].between(-50, 50) & frame[name].notna() for name in NUMBERS[:5]]
    bad += [~frame["count_0"].between(0, 1000) & frame["count_0"].notna()]
    sets, patterns = {"kind": list("abcd"), "flag": ["yes", "no"]}, {"code": r"\d{6}$", "part": r"X\d{5}$"}
    bad += [~frame[name].isin(values) & frame[name].notna() for name, values in sets.items()]
    bad += [~frame[name].str.match(regex) & frame[name].notna() for name, regex in patterns.items()]
    bad += [frame["code"].str.len() > 10]
    return [int(each.sum()) for each in bad]


def with_pandera(tables: list[pa.Table]) -> list[str]:
    """The same expectations in pandera, all failures of a table collected, one table after the other."""
    import pandera.pandas as pandera

    check, text = pandera.Check, pandera.Check.str_length(max_value=10_000)
    columns = {name: pandera.Column(nullable=False) for name in ("id", "changed_at")}
    columns |= {"seen_at": pandera.Column(checks=check.le(CLOCK + timedelta(days=1)), nullable=False)}
    finite = check(lambda values: ~np.isinf(values))
    columns |= {name: pandera.Column(checks=[finite, check.in_range(-50, 50)], nullable=name != "number_0") for name in NUMBERS}
    columns |= {
        "count_0": pandera.Column(checks=check.in_range(0, 1000)),
        "country": pandera.Column(checks=text, nullable=True),
    }
    columns |= {"kind": pandera.Column(checks=[text, check.isin(list("abcd"))])}
    columns |= {"flag": pandera.Column(checks=[text, check.isin(["yes", "no"])], nullable=True)}
    columns |= {"code": pandera.Column(checks=[text, check.str_matches(r"^\d{6}$"), check.str_length(max_value=10)])}
    columns |= {"part": pandera.Column(checks=[text, check.str_matches(r"^X\d{5}$")], nullable=True)}
    schema = pandera.DataFrameSchema(columns)
    return [_pandera_state(schema, table.to_pandas()) for table in tables]


def _pandera_state(schema: Any, frame: pd.DataFrame) -> str:
    import pandera.pandas as pandera

    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors:
        return "quarantined"
    return "accepted"


def best(function: Callable[[], list[str]], number: int) -> float:
    """The shortest of three runs; every table must be accepted."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        states = function()
        seconds.append(time.perf_counter() - started)
        if states != ["accepted"] * number:
            raise SystemExit(f"The benchmark's rows should pass: {states}")
    return round(min(seconds), 2)


def compared(each: int) -> dict[str, float]:
    """Twenty countries of so many rows each."""
    tables, suite = [rows(each, seed) for seed in range(20)], Suite(source, CLOCK)
    made = {"perennial": best(lambda: ours(tables, suite), 20), "plain_pandas": best(lambda: plain(tables), 20)}
    if find_spec("pandera"):
        made["pandera"] = best(lambda: with_pandera(tables), 20)
    return made


def resources(folder: Path, dsn: str) -> Resources:
    """A registry and a lake of one batch; nothing is signed."""
    store = open_store((folder / "store").as_uri())
    return Resources(database=dsn, store=store, signing_key=folder, public_keys=folder, source_dsn=lambda name: dsn)


def large(folder: Path, dsn: str, answers: "multiprocessing.Queue[dict[str, float]]") -> None:
    """Validate one landed batch in a process of its own, so that its peak memory is the step's."""
    started = time.perf_counter()
    states = validate(resources(folder, dsn), source)
    seconds = round(time.perf_counter() - started, 1)
    answers.put({"seconds": seconds, "peak_mb": peak_mb(), **states})


def landed(folder: Path, dsn: str) -> None:
    """Land a batch of 5,000,000 rows, in a process of its own: what it takes does not count."""
    writer = BatchWriter(folder / "batch.parquet", source)
    for seed in range(20):
        writer.write(rows(250_000, 20 * seed))
    file = writer.close()
    database = connect(dsn)
    facts = stored(resources(folder, dsn), source, "AA", Landed(file=file))
    run(database, "start_cursor", source="bench", clock=CLOCK)
    bounds = {"lower": CLOCK - timedelta(days=60), "upper": CLOCK, "is_late": False}
    run(database, "land_batch", source="bench", country="AA", **bounds, **facts)
    database.close()


def main() -> None:
    """Measure, print and keep the figures."""
    figures: dict[str, Any] = {"twenty_of_100_000": compared(100_000), "twenty_of_1_000": compared(1_000)}
    folder = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
    postgres = Postgres(folder / "data", folder / "postgres.log")
    spawn = multiprocessing.get_context("spawn")
    try:
        postgres.start()
        postgres.create_database("perennial")
        migrate(postgres.dsn("perennial"))
        answers: multiprocessing.Queue[dict[str, float]] = spawn.Queue()
        for work, given in ((landed, ()), (large, (answers,))):
            process = spawn.Process(target=work, args=(folder, postgres.dsn("perennial"), *given))
            process.start()
            if given:
                figures["one_of_5_000_000"] = answers.get(timeout=600)
            process.join()
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    figures |= {"machine": machine()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "validation.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
