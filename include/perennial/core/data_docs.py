"""Data Docs: what Great Expectations would say of a batch as a whole, and its page of that.

The page is rendered directly: a site of Great Expectations is rebuilt with all results ever kept. It holds its own style, no
script, and nothing from elsewhere, so it can be read without a network, and what stands in the data cannot run.
"""

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from html import escape
from typing import Any

import great_expectations as gx
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.renderer.content_block import ValidationResultsTableContentBlockRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, PackageLoader

import perennial.expectations  # noqa: F401 (Great Expectations knows what was imported)
from perennial.spec import QUARANTINE_BATCH, REJECT_ROW, WARN

CHECK = "expect_batch_to_pass_check"
CHECKS = {
    "columns": "the columns must be those of the spec",
    "copies": "no row may be a copy of an earlier one, in all but key and time of change",
    "country": "the country must be known to the source",
    "freshness": "the newest event must not be much older than in earlier batches",
    "max_rejected": "few rows may be rejected, and not all",
    "readable": "every value must be of its column's type",
    "scale": "numbers must be about as large as in earlier batches",
    "share": "shares of missing values and of categories must be about as in earlier batches",
    "validation": "the validation must run",
    "volume": "each day must have about as many rows as the same weekdays lately and a year ago",
}
CONSEQUENCES = {REJECT_ROW: "its rows are rejected", QUARANTINE_BATCH: "the batch is held", WARN: "a warning"}
GX = "great_expectations."
MOMENT = "%Y-%m-%d %H:%M:%S %Z"


class ExpectBatchToPassCheck(BatchExpectation):
    """A check of Perennial's, told as an expectation. It is never run by Great Expectations, only shown."""

    check: str
    column: str | None = None

    def _validate(self, *given: Any, **named: Any) -> Any:
        raise NotImplementedError("checks are run by Perennial")


def suite_result(source: str, name: str, moment: str, report: Mapping[str, Any]) -> ExpectationSuiteValidationResult:
    """The result of a whole batch as Great Expectations has it, from what the ledger keeps of its validation.

    ``success`` is whether the batch may be let in: a rejected row or a warning does not stop it. Values are as they are in
    the data. ``moment``: ISO 8601.
    """
    findings = report.get("findings", [])
    passed = sum(finding["success"] for finding in findings)
    statistics = {
        "evaluated_expectations": len(findings), "successful_expectations": passed,
        "unsuccessful_expectations": len(findings) - passed,
        "success_percent": 100 * passed / len(findings) if findings else None,
    }  # fmt: skip
    return ExpectationSuiteValidationResult(
        success=not any(_holds(finding) for finding in findings), suite_name=source, statistics=statistics,
        results=[_result(finding) for finding in findings],
        meta={"run_id": {"run_name": name, "run_time": moment}, "great_expectations_version": gx.__version__},
    )  # fmt: skip


def _holds(finding: Mapping[str, Any]) -> bool:
    return not finding["success"] and finding.get("severity", QUARANTINE_BATCH) == QUARANTINE_BATCH


def _result(finding: Mapping[str, Any]) -> ExpectationValidationResult:
    crash = finding.get("text", "") if not _is_check(finding) and not finding["success"] else ""
    raised = {"raised_exception": bool(crash), "exception_message": crash or None, "exception_traceback": crash or None}
    return ExpectationValidationResult(
        success=finding["success"], expectation_config=_configuration(finding), result=_outcome(finding), exception_info=raised
    )  # fmt: skip


def _is_check(finding: Mapping[str, Any]) -> bool:
    return finding["expectation"] not in _known()


def _known() -> list[str]:
    names: list[str] = list_registered_expectation_implementations()
    return names


def _configuration(finding: Mapping[str, Any]) -> ExpectationConfiguration:
    name, kwargs = finding["expectation"], dict(finding.get("kwargs") or {})
    description = finding.get("description") or ""
    if _is_check(finding):
        columns = finding.get("columns") or [None]
        description = description or CHECKS.get(name) or ", ".join([name, *_details(kwargs)])
        name, kwargs = CHECK, {"check": name, **({"column": columns[0]} if len(columns) == 1 and columns[0] else {})}
    elif not description and not get_expectation_impl(name).__module__.startswith(GX):
        description = f"{_sentence(name)} {', '.join(_details(kwargs))}"
    severity = finding.get("severity", QUARANTINE_BATCH)
    return ExpectationConfiguration(type=name, kwargs=kwargs, severity=severity, description=description or None)


def _details(kwargs: Mapping[str, Any]) -> list[str]:
    said = {name: value for name, value in kwargs.items() if value is not None and name != "ignore_row_if"}
    return [f"{name}: {', '.join(dict.fromkeys(map(str, value))) if isinstance(value, list) else value}"
            for name, value in said.items()]  # fmt: skip


def _sentence(name: str) -> str:
    """What an expectation's class says of itself: Great Expectations has no words for those it does not come with."""
    said = (inspect.getdoc(get_expectation_impl(name)) or name).replace("``", "").replace("\n", " ")
    return f"{said.split('. ')[0].rstrip('.:')}."


def _outcome(finding: Mapping[str, Any]) -> dict[str, Any]:
    rows, unexpected = finding.get("rows", 0), finding.get("unexpected", 0)
    if _is_check(finding):
        return {"observed_value": finding.get("text") or f"{unexpected:,} of {rows:,} rows", "element_count": rows}
    share = 100 * unexpected / rows if rows else 0.0
    examples = list(finding.get("examples", ()))
    return {
        "element_count": rows, "unexpected_count": unexpected, "unexpected_percent": share, "partial_unexpected_list": examples
    }  # fmt: skip


class Table(ValidationResultsTableContentBlockRenderer):
    """Great Expectations' table of results with a column for what follows where one fails."""

    @classmethod
    def _process_content_block(cls, content_block: Any, has_failed_evr: Any, render_object: Any = None) -> None:
        super()._process_content_block(content_block, has_failed_evr, render_object)
        content_block.header_row = [*content_block.header_row, "If it fails"]

    @classmethod
    def _get_content_block_fn(cls, expectation_type: str, expectation_config: Any = None) -> Callable[..., Any]:
        rows_of = super()._get_content_block_fn(expectation_type, expectation_config)

        def rows(*given: Any, result: Any, **named: Any) -> list[Any]:
            severity = result.expectation_config.severity
            consequence = CONSEQUENCES[str(getattr(severity, "value", severity))]
            return [[*row, consequence] for row in rows_of(*given, result=result, **named)]

        return rows


SECTIONS = {
    "class_name": "ValidationResultsColumnSectionRenderer",
    "table_renderer": {"class_name": Table.__name__, "module_name": __name__},
}


def batch_page(batch: Any) -> str:
    """A decided batch's page as HTML: what the ledger says of it above what Great Expectations makes of its result."""
    title = f"{batch.source}/{batch.country} {batch.seq}"
    result = suite_result(batch.source, title, batch.decided_at.isoformat(), batch.report)
    document = ValidationResultsPageRenderer(column_section_renderer=SECTIONS).render(_escaped(result))
    # Its heading names the suite with a link into a site that there is not.
    document.sections[0].content_blocks = document.sections[0].content_blocks[1:]
    html: str = _view().render(document, template="page.html", title=title, batch=batch, facts=_facts(batch))
    return html


def _facts(batch: Any) -> dict[str, str]:
    facts = {
        "Rows": f"{batch.rows:,}",
        "Changed": _span(batch.lower, batch.upper),
        "Events": _span(batch.event_min, batch.event_max),
        "Landed": format(batch.landed_at, MOMENT),
        "Decided": format(batch.decided_at, MOMENT),
        "Object": batch.object_key,
    }
    if batch.rejected_rows:
        facts |= {"Rejected rows": f"{batch.rejected_rows:,}", "Kept aside in": batch.rejected_key}
    if batch.unreadable_rows:
        facts |= {"Unreadable rows": f"{batch.unreadable_rows:,}", "Unreadable, kept in": batch.unreadable_key}
    return facts


def _span(first: datetime | None, last: datetime | None) -> str:
    return f"{first:{MOMENT}} to {last:{MOMENT}}" if first and last else "none"


@cache
def _view() -> Any:
    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([PackageLoader("perennial.core", "pages"), view.env.loader])
    return view


def _escaped(result: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    """The result with its texts as HTML: most of them its renderers put into the page as they are."""
    run = result.meta["run_id"]
    return ExpectationSuiteValidationResult(
        success=result.success, suite_name=result.suite_name, statistics=result.statistics,
        meta={**result.meta, "run_id": {**run, "run_name": escape(run["run_name"])}},
        results=[_escaped_result(each) for each in result.results],
    )  # fmt: skip


def _html(template: str) -> str:
    """A text as HTML in which nothing is left to be substituted."""
    return escape(template).replace("$", "&#36;")


def _escaped_result(result: ExpectationValidationResult) -> ExpectationValidationResult:
    asked, found, raised = result.expectation_config, dict(result.result), dict(result.exception_info)
    if "observed_value" in found:
        found["observed_value"] = escape(found["observed_value"])
    else:
        found["partial_unexpected_list"] = [escape(str(value)) for value in found["partial_unexpected_list"]]
    raised["exception_traceback"] = _html(raised["exception_traceback"] or "")
    description = _html(asked.description) if asked.description else None
    configuration = ExpectationConfiguration(
        type=asked.type, kwargs=asked.kwargs, severity=asked.severity, description=description
    )  # fmt: skip
    return ExpectationValidationResult(
        success=result.success, expectation_config=configuration, result=found, exception_info=raised
    )  # fmt: skip
