"""The text of new specs: a source as it is proposed, a fleet, and a model that works and is to be edited."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from perennial.proposal import Proposal
from perennial.spec import COUNTRY, Column, Source

ROLES = ("key", "event_time", "changed_at", "country")
WIDTH, LIST_WIDTH = 118, 90

SOURCE = '''"""{title}

Written from {seen} in {place}. What is a guess says so: read it, correct it, then `make check-models`.
"""

from perennial import {imports}

COUNTRIES = {{
{countries}
}}

{name} = {kind}(
    name="{name}",
    owner=Owner("{name}-data"),  # with alerts=("mailto://…",) its owner is notified
    connection="{connection}",
{where}
{roles}
    countries=COUNTRIES,
    columns=(
{columns}
    ),
    schedule="*/10 * * * *",
)
'''

FLEET = '''"""The fleet `{fleet}`: say here what it predicts, and for whom."""

from perennial import Fleet, Owner

{fleet} = Fleet(
    name="{fleet}",
    owner=Owner("{fleet}-team"),  # with alerts=("mailto://…",) its owner is notified
    countries=({countries}),{pattern}
    workers=2,
)
'''

MODEL = '''"""The model `{name}`: say here what it predicts, and for whom."""

from {package} import {variable} as fleet
from perennial import Cadence, Days, Gate, Model, Owner

# What is known when the prediction is made. Leave out what is only known later: it would leak the answer.
NUMBERS = [{numbers}]
CATEGORIES = [{categories}]


def examples(rows, as_of):
    """One row per prediction. `rows` holds the latest revision of each source row, indexed by its key."""
    import pandas as pd

    known = rows[rows["{target}"].notna()]
    return pd.DataFrame(
        {{
            "event_time": {moment},
            # When the target is known: later than the event where it takes time.
            "label_time": {moment},
            "target": known["{target}"].astype(float),
            **{{name: known[name] for name in [*NUMBERS, *CATEGORIES]}},
        }}
    )


def features(examples):
    """What the estimator sees, row by row, the same when serving. Nothing is learned here."""
    import pandas as pd

    numbers = {{name: examples[name].astype(float) for name in NUMBERS}}
    texts = {{name: examples[name].fillna("").astype(str) for name in CATEGORIES}}
    moment = examples["event_time"].dt
    times = {{"hour_of_event": moment.hour.astype(float), "weekday_of_event": moment.dayofweek.astype(float)}}
    return pd.DataFrame({{**numbers, **texts, **times}}, index=examples.index)


def estimator():
    """An unfitted scikit-learn pipeline. Whatever is learned is learned in here."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import {trees}
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=100)
    prepare = ColumnTransformer([("codes", codes, CATEGORIES)], remainder="passthrough")
    trees = {trees}(max_iter=60, early_stopping=False, random_state=0)
    return Pipeline([("prepare", prepare), ("trees", trees)])


{name} = Model(
    name="{name}",
    owner=Owner("{fleet}-team"),  # with alerts=("mailto://…",) its owner is notified
    source="{source}",
    countries=fleet.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="{metric}",
    window=Days({window}),
    holdout=Days({holdout}),
    gate=Gate(floor={floor}),  # the worst metric that you would publish, in its own unit: set it
    cadence=Cadence(min_new_rows=100),
    columns=({columns}),
)
'''


def source_text(name: str, connection: str, table: str, proposal: Proposal, seen: str) -> str:
    """The spec of a table."""
    where = [f"    table={_quoted(table)},"]
    title = f"Rows of the table {table}."
    return _source(name, "Source", connection, where, proposal, title, seen, f"the table {table}")


def file_source_text(name: str, connection: str, key: str, kind: str, proposal: Proposal, seen: str) -> str:
    """The spec of files of one kind below the folder of ``key``."""
    prefix = f"{key.rpartition('/')[0]}/"
    names = [column.name for column, _ in proposal.columns]
    where = [
        f"    prefix={_quoted(prefix)},  # each file of this format below it is landed once",
        f"    format={_quoted(kind)},",
    ]
    where += ['    changed_at="picked_up_at",  # the files have a changed_at of their own'] if "changed_at" in names else []
    title = f"Files below {prefix}."
    return _source(name, "FileSource", connection, where, proposal, title, seen, key)


def _source(
    name: str, kind: str, connection: str, where: list[str], proposal: Proposal, title: str, seen: str, place: str
) -> str:
    columns = [line for column, note in proposal.columns for line in _with_comment(f"        {_column(column)},", note)]
    columns += [f"        # left out: {each}" for each in proposal.left_out]
    return SOURCE.format(
        title=title,
        seen=seen,
        place=place,
        kind=kind,
        imports=", ".join(sorted(("Column", "Owner", kind))),
        name=name,
        connection=connection,
        where="\n".join(where),
        countries="\n".join(_country_lines(proposal)),
        roles="\n".join(_role_lines(proposal)),
        columns="\n".join(columns),
    )


def _country_lines(proposal: Proposal) -> list[str]:
    codes = proposal.countries
    lines = [f"    {_literal(value)}: {_quoted(code)}," for value, code in codes.items()]
    if all(COUNTRY.fullmatch(code) for code in codes.values()):
        return lines
    return ["    # Codes that are no countries' of ISO 3166-1 need a country_pattern in the fleet that reads them.", *lines]


def _role_lines(proposal: Proposal) -> list[str]:
    values = {"key": _tuple(proposal.key)} | {role: _quoted(getattr(proposal, role)) for role in ROLES[1:]}
    shown = [role for role in ROLES if getattr(proposal, role)]
    lines = [line for role in shown for line in _with_comment(f"    {role}={values[role]},", proposal.notes.get(role, ""))]
    if proposal.deleted:
        lines.append(f"    deleted={_quoted(proposal.deleted)},  # by its name: such a row is read no more")
    return lines


def _with_comment(line: str, comment: str) -> list[str]:
    """The line with its comment behind it, or above it where both together are too long."""
    text = " ".join(comment.split())
    if not text:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    behind = f"{line}  # {text}"
    return [behind] if len(behind) <= WIDTH else [*_wrapped(text, indent), line]


def _wrapped(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _column(column: Column) -> str:
    said = [_quoted(column.name), _quoted(column.type)]
    said += [] if column.nullable else ["nullable=False"]
    said += [f"{name}={getattr(column, name):_}" for name in ("min_value", "max_value") if getattr(column, name) is not None]
    said += ["is_category=True"] if column.is_category else []
    return f"Column({', '.join(said)})"


def fleet_text(fleet: str, countries: Sequence[str]) -> str:
    """The declaration of a new fleet."""
    pattern = _pattern_of(countries)
    line = f'\n    country_pattern=r"{pattern}",  # its codes are no countries\' of ISO 3166-1' if pattern else ""
    return FLEET.format(fleet=fleet, countries=_several(countries, indent=4), pattern=line)


def _pattern_of(codes: Iterable[str]) -> str:
    forms = (COUNTRY.pattern, r"[A-Z]{3}", r"[A-Z][A-Z0-9_]*", r"[A-Za-z0-9_-]+")
    form = next(form for form in forms if all(re.fullmatch(form, code) for code in codes))
    return "" if form == COUNTRY.pattern else form


def model_text(name: str, fleet: str, package: str, variable: str, source: Source, target: str) -> str:
    """A working model of a source's column, from its other columns. Its windows are of some months."""
    kinds = {column.name: column.type for column in source.declared_columns}
    others = [each for each in kinds if each not in (*source.key, source.changed_at, source.country, target, source.deleted)]
    numbers = [each for each in others if kinds[each] in ("int64", "float64", "bool")]
    texts = [each for each in others if kinds[each] == "string"]
    is_yes_or_no = kinds[target] == "bool"
    return MODEL.format(
        name=name,
        fleet=fleet,
        package=package,
        variable=variable,
        source=source.name,
        target=target,
        moment=_moment_of(source),
        numbers=_several(numbers),
        categories=_several(texts),
        columns=_several(list(dict.fromkeys([source.event_time, target, *numbers, *texts])), indent=4),
        metric="log_loss" if is_yes_or_no else "rmse",
        floor="0.69" if is_yes_or_no else "1e9",
        trees="HistGradientBoostingClassifier" if is_yes_or_no else "HistGradientBoostingRegressor",
        window=180,
        holdout=60,
    )


def _moment_of(source: Source) -> str:
    """How the skeleton says an event's time: a key's columns are the index."""
    name = _quoted(source.event_time)
    return f"known.index.get_level_values({name})" if source.event_time in source.key else f"known[{name}]"


def target_of(source: Source) -> str:
    """The column to begin with: the first number with a fraction, else the first number, else a yes or no."""
    roles = (*source.key, source.changed_at, source.country, source.deleted)
    for kind in ("float64", "int64", "bool"):
        for column in source.declared_columns:
            if column.type == kind and column.name not in roles:
                return column.name
    return ""


def _several(names: Sequence[str], indent: int = 0) -> str:
    """What stands between the brackets of a tuple or list: in one line where it fits, else a line each."""
    quoted = [_quoted(name) for name in names]
    line = ", ".join(quoted)
    if len(line) > LIST_WIDTH:
        margin = " " * indent
        return f"\n{margin}    " + f",\n{margin}    ".join(quoted) + f",\n{margin}"
    return f"{line}," if len(quoted) == 1 else line


def _tuple(names: Sequence[str]) -> str:
    return f"({_several(names, indent=4)})"


def _literal(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A Python literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)
