"""A batch's validation as Great Expectations has it, and its page."""

import json
import re
from collections import namedtuple
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import great_expectations.expectations as gxe
import pytest

from perennial import QUARANTINE_BATCH, REJECT_ROW, WARN
from perennial.core.batch_index import index
from perennial.core.data_docs import CHECKS, batch_page, suite_result
from perennial.core.expectations import _rule
from perennial.core.findings import Finding, could_not_run, verdict_of
from perennial.core.trials import COPIES
from perennial.expectations import ExpectColumnPairValuesNegativeToMatchRegex

PERENNIAL = Path(__file__).parents[2] / "include/perennial"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Batch = namedtuple("Batch", "source country seq state reason report rows lower upper event_min event_max object_key landed_at "
                            "decided_at rejected_rows rejected_key unreadable_rows unreadable_key page")  # fmt: skip
HOSTILE = "<script>alert('$x')</script>"


def finding(name="volume", severity=WARN, success=False, **facts):
    return Finding(expectation=name, severity=severity, success=success, **{"columns": (), "rows": 1000, **facts})


def of(expectation, success=False, **facts):
    """A finding about an expectation of a suite."""
    rule = _rule(expectation.configuration)
    told = {"columns": rule.columns, "kwargs": rule.asked, "description": rule.description, "severity": rule.severity}
    return finding(rule.name, success=success, **{**told, **facts})


def price(**named):
    return gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, strict_min=True, severity=REJECT_ROW, **named)


def report(*findings):
    return verdict_of(findings).report({})


def result(*findings):
    return suite_result("order_lines", "order_lines/GB 12", MOMENT.isoformat(), report(*findings)).to_json_dict()


def batch(*findings, **changes):
    verdict = verdict_of(findings)
    facts = {
        "source": "order_lines", "country": "GB", "seq": 12, "state": verdict.state, "reason": verdict.reason,
        "report": verdict.report({}), "rows": 1000, "lower": MOMENT, "upper": MOMENT, "event_min": None, "event_max": None,
        "object_key": "lake/order_lines/GB/x.parquet", "landed_at": MOMENT, "decided_at": MOMENT, "rejected_rows": None,
        "rejected_key": None, "unreadable_rows": 0, "unreadable_key": None, "page": None,
    }  # fmt: skip
    return Batch(**{**facts, **changes})


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_an_expectation_is_told_with_all_it_was_made_with_and_its_counts():
    (told,) = result(of(price(mostly=0.9), rows=1000, unexpected=12, examples=("0.0", "-1.5")))["results"]
    config = told["expectation_config"]
    assert (config["type"], config["severity"]) == ("expect_column_values_to_be_between", "warning")
    asked = {"column": "price", "min_value": 0, "strict_min": True, "mostly": 0.9}
    assert {name: config["kwargs"][name] for name in asked} == asked
    assert told["result"] == {
        "element_count": 1000, "unexpected_count": 12, "unexpected_percent": 1.2, "partial_unexpected_list": ["0.0", "-1.5"]
    }  # fmt: skip


def test_a_check_is_told_with_what_was_observed():
    told = result(finding(text="volume: 1 of 2 days are unusual"), finding("copies", unexpected=3))["results"]
    assert [each["expectation_config"]["kwargs"]["check"] for each in told] == ["volume", "copies"]
    assert [each["result"]["observed_value"] for each in told] == ["volume: 1 of 2 days are unusual", "3 of 1,000 rows"]


@pytest.mark.parametrize(("severity", "success"), [(REJECT_ROW, True), (WARN, True), (QUARANTINE_BATCH, False)])
def test_a_result_succeeds_where_the_batch_may_be_let_in(severity, success):
    made = result(finding(severity=severity), finding(success=True))
    assert made["success"] == success == (batch(finding(severity=severity)).state == "accepted")
    assert made["statistics"] == {
        "evaluated_expectations": 2, "successful_expectations": 1, "unsuccessful_expectations": 1, "success_percent": 50.0
    }  # fmt: skip


def test_every_check_that_the_code_knows_has_words_on_the_page():
    texts = [file.read_text() for folder in ("core", "steps") for file in (PERENNIAL / folder).glob("*.py")]
    named = {name for text in texts for name in re.findall(r'expectation="(\w+)"', text)} | {COPIES}
    assert named == set(CHECKS)
    for name, words in CHECKS.items():
        assert words in Page(batch_page(batch(finding(name)))).text


def test_the_page_says_the_state_the_reason_and_what_each_expectation_found():
    held = finding("max_rejected", QUARANTINE_BATCH, unexpected=500, text="500 of 1,000 rows are rejected, more than 20%")
    bad = of(price(), unexpected=500, examples=("0.0",))
    text = Page(batch_page(batch(bad, held, rejected_rows=500, rejected_key="quarantine/x"))).text
    for said in (
        "order_lines/GB 12 quarantined", held.text, "values must be greater than 0", "500 unexpected values found. 50% of 1000",
        "Sampled Unexpected Values 0.0", "its rows are rejected", "the batch is held", "Kept aside in quarantine/x",
        "Landed 2026-01-02 03:04:05 UTC", "Unsuccessful Expectations 2",
    ):  # fmt: skip
        assert said in text, said


def test_an_expectation_that_great_expectations_has_no_words_for_says_what_its_class_says():
    negative = ExpectColumnPairValuesNegativeToMatchRegex(column_A="quantity", column_B="invoice", regex="^C$")
    text = Page(batch_page(batch(of(negative, success=True)))).text
    assert "Expect column_A to be negative only where column_B matches regex" in text
    assert "column_A: quantity, column_B: invoice, regex: ^C$" in text


def test_an_expectations_own_description_comes_first():
    text = Page(batch_page(batch(of(price(description="nothing is free of charge"))))).text
    assert "nothing is free of charge" in text
    assert "values must be greater" not in text


def test_an_expectation_that_could_not_be_run_shows_why():
    text = Page(
        batch_page(batch(of(price(), severity=QUARANTINE_BATCH, text="between on price: could not be run: no $such")))
    ).text
    assert "raised an exception: between on price: could not be run: no $such" in text


def test_a_validation_that_could_not_run_has_a_page():
    held = could_not_run(MemoryError("too much"))
    text = Page(batch_page(batch(state=held.state, reason=held.reason, report=held.report({})))).text
    assert "the validation must run The validation could not run: MemoryError: too much" in text


def test_reports_of_before_and_of_expectations_that_are_gone_have_pages():
    old = {"findings": [{"expectation": "not null", "success": True, "rows": 10, "unexpected": 0}]}
    assert "not null 0 of 10 rows" in Page(batch_page(batch(report=old))).text
    assert "expect_what_is_gone, most: 3" in Page(batch_page(batch(finding("expect_what_is_gone", kwargs={"most": 3})))).text
    assert "Evaluated Expectations 0" in Page(batch_page(batch(report={}))).text


def hostile_page():
    everywhere = {"examples": (HOSTILE,), "text": HOSTILE, "description": HOSTILE, "unexpected": 1}
    findings = [of(price(), **everywhere), finding("share", columns=("price",), **everywhere), finding(HOSTILE)]
    match = gxe.ExpectColumnValuesToMatchRegex(column="code", regex=HOSTILE)
    findings.append(of(match, unexpected=1, examples=(HOSTILE,)))
    return batch_page(batch(*findings, object_key=HOSTILE, rejected_rows=1, rejected_key=HOSTILE, country=HOSTILE))


def test_what_stands_in_the_data_is_text_and_nothing_else():
    page = Page(hostile_page())
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(HOSTILE) >= 10


@pytest.mark.parametrize("html", [hostile_page(), index("order_lines", [batch(page="data_docs/order_lines/GB/12.html")])],
                         ids=["a page", "an index"])  # fmt: skip
def test_nothing_is_asked_of_a_network_and_nothing_runs(html):
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "src"]
    leading = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    assert leading in (["../index.html"], ["GB/12.html"])
    assert not re.search(r"url\(|@import|https?:", html.replace(HOSTILE, ""))


def test_the_index_lists_batches_and_links_to_those_with_a_page():
    listed = [batch(finding(text=HOSTILE), page="data_docs/order_lines/GB/12.html"), batch(seq=11, page=None, decided_at=None)]
    page = Page(index("order_lines", listed))
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == ["GB/12.html"]
    assert f"GB 12 accepted 2026-01-02 03:04 1,000 noticed: {HOSTILE} GB 11 accepted 1,000" in page.text


def test_a_result_is_strict_json():
    made = json.dumps(result(of(price(), examples=("nan",)), finding()), allow_nan=False)
    assert json.loads(made)["meta"]["run_id"] == {"run_name": "order_lines/GB 12", "run_time": MOMENT.isoformat()}


def test_only_checks_of_a_single_column_stand_with_that_column():
    (told,) = result(finding("share", columns=("price",)))["results"]
    assert told["expectation_config"]["kwargs"] == {"check": "share", "column": "price"}
