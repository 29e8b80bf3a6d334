"""Rule 11: an owner is told once of a run, causes grouped, whatever happens to the mail."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from psycopg2 import errors
from toolbox import add_model
from toy_models.zoo import _failing

from perennial import Owner
from perennial.errors import FleetFailed
from perennial.shell import delivery
from perennial.steps import report as report_step
from perennial.steps import tell as tell_step
from perennial.steps.report import Scheduler, report

KEEPERS = Owner("keepers", alerts=("mailto://keepers@example.com",))
PAUSES = tell_step.PAUSES_SECONDS
URL = "https://airflow.example.com/dags/retrain_zoo/runs/run-1"


@pytest.fixture
def fed(zoo, post):
    """A zoo of one model and one owner with an address, with rows of three countries, and a mail relay."""
    specs = zoo.catalog.fleets["zoo"]
    fleet, models = replace(specs.fleet, owner=KEEPERS), {"weight": replace(specs.models["weight"], owner=KEEPERS)}
    zoo.catalog = replace(zoo.catalog, fleets={"zoo": replace(specs, fleet=fleet, models=models)})
    zoo.resources = replace(zoo.resources, mail=post.relay)
    for country in ("Britain", "France", "Germany"):
        zoo.see(country, range(60))
    zoo.ingest()
    return zoo


def trained(zoo, **request):
    run_id = zoo.plan(**request)
    zoo.train(run_id)
    return run_id


def tell_all(zoo, run_id):
    return report(zoo.resources, zoo.catalog, run_id, Scheduler(page=lambda run: URL))


def messages(zoo):
    return zoo.sql("SELECT * FROM messages ORDER BY created_at, run_id, tier, owner")


def states(zoo):
    return {row.owner: row.state for row in messages(zoo)}


def test_an_owner_gets_one_message_of_a_run(fed, post):
    tell_all(fed, trained(fed))
    ((recipient, subject, text),) = post.letters
    assert (recipient, subject) == ("keepers@example.com", "[zoo] 3 of 3 cells published")
    assert "weight: DE first model, FR first model, GB first model" in text
    assert URL in text
    (row,) = messages(fed)
    assert (row.state, row.reached, row.attempts, row.error) == ("sent", ["keepers@example.com"], 1, "")
    assert (row.run_id, row.subject, row.body.split()) == ("zoo/run-1", subject, text.split())


def test_each_owner_gets_one_and_tier_1_first(fed, post):
    add_model(fed, "height", owner=Owner("vets", alerts=("mailto://vets@example.com",), tier=1))
    tell_all(fed, trained(fed))
    assert post.recipients == ["vets@example.com", "keepers@example.com"]


def test_nobody_is_told_of_a_run_in_which_nothing_happened(fed, post):
    tell_all(fed, trained(fed, dry_run=True))
    assert (post.letters, messages(fed)) == ([], [])


def test_cells_that_failed_for_one_cause_are_one_line(fed, post):
    fed.edit(estimator=_failing.estimator, attempts=1)
    with pytest.raises(FleetFailed, match="3 of 3 cells"):
        tell_all(fed, trained(fed))
    ((_, subject, text),) = post.letters
    assert subject == "[zoo] 3 of 3 cells failed"
    assert "- weight: DE, FR, GB (3 cells): ValueError: this recipe is broken in Failing.fit, specs/" in text


def test_a_run_without_a_plan_is_told_to_the_fleets_owner_and_has_failed(fed, post):
    with pytest.raises(FleetFailed, match="has no plan"):
        tell_all(fed, "zoo/never-planned")
    assert [(recipient, subject) for recipient, subject, _ in post.letters] == [
        ("keepers@example.com", "[zoo] run without a plan, nothing was trained")
    ]


def test_a_run_that_is_reported_twice_is_told_once(fed, post):
    run_id = trained(fed)
    assert [tell_all(fed, run_id) for _ in range(2)] == [{"published": 3}] * 2
    assert len(post.letters) == 1


def test_two_reports_side_by_side_tell_once(fed, post, monkeypatch):
    run_id, send = trained(fed), tell_step.send

    def beside_another_report(*given):
        monkeypatch.setattr(tell_step, "send", send)
        other = threading.Thread(target=tell_all, args=(fed, run_id))
        other.start()
        other.join(20)
        send(*given)

    monkeypatch.setattr(tell_step, "send", beside_another_report)
    tell_all(fed, run_id)
    assert (len(post.letters), states(fed)) == (1, {"keepers": "sent"})


def test_a_message_that_another_report_has_sent_meanwhile_is_left(fed, post, monkeypatch, caplog):
    run_id, ask = trained(fed), tell_step.fetch_one

    def after_another_report(*given, **values):
        monkeypatch.setattr(tell_step, "fetch_one", ask)
        tell_all(fed, run_id)
        return ask(*given, **values)

    monkeypatch.setattr(tell_step, "fetch_one", after_another_report)
    tell_all(fed, run_id)
    assert (len(post.letters), states(fed)) == (1, {"keepers": "sent"})
    assert "ended early" not in caplog.text


def test_a_run_that_is_reported_again_delivers_what_waits(fed, post):
    post.close()
    run_id = trained(fed)
    tell_all(fed, run_id)
    post.open()
    tell_all(fed, run_id)
    assert (len(post.letters), states(fed)) == (1, {"keepers": "sent"})


def test_a_sent_message_is_final(fed):
    tell_all(fed, trained(fed))
    with pytest.raises(errors.RestrictViolation):
        fed.sql("UPDATE messages SET state = 'pending', sent_at = NULL")


def test_a_relay_that_is_down_changes_nothing_and_the_next_report_delivers(fed, post, caplog):
    post.close()
    run_id = trained(fed)
    assert tell_all(fed, run_id) == {"published": 3}
    (row,) = messages(fed)
    assert (row.state, row.attempts, row.sent_at) == ("pending", 3, None)
    assert "Connection refused" in row.error
    assert "Could not tell keepers of run zoo/run-1" in caplog.text
    post.open()
    tell_all(fed, trained(fed, dry_run=True))
    assert (states(fed), len(post.letters)) == ({"keepers": "sent"}, 1)


def test_a_short_absence_is_bridged_by_trying_again(fed, post, monkeypatch):
    post.close()
    run_id = trained(fed)
    pauses = []
    monkeypatch.setattr(tell_step, "PAUSES_SECONDS", PAUSES)
    monkeypatch.setattr(tell_step.time, "sleep", lambda seconds: (pauses.append(seconds), seconds == 3 and post.open()))
    tell_all(fed, run_id)
    assert (pauses, states(fed), messages(fed)[0].attempts) == ([0, 1, 3], {"keepers": "sent"}, 3)


def test_what_cannot_be_delivered_for_a_day_is_given_up(fed, post, caplog):
    post.close()
    tell_all(fed, trained(fed))
    fed.sql("UPDATE messages SET created_at = now() - interval '25 hours'")
    tell_all(fed, trained(fed, dry_run=True))
    assert (states(fed), messages(fed)[0].attempts) == ({"keepers": "failed"}, 6)
    assert "Gave up telling keepers of run zoo/run-1 after a day" in caplog.text
    post.open()
    tell_all(fed, trained(fed, dry_run=True))
    assert post.letters == []


def test_a_failed_run_is_told_before_the_report_fails(fed, post, monkeypatch):
    fed.edit(estimator=_failing.estimator, attempts=1)
    told = []
    monkeypatch.setattr(report_step, "tell", lambda *given: told.append(given) or tell_step.tell(*given))
    with pytest.raises(FleetFailed):
        tell_all(fed, trained(fed))
    assert (len(told), len(post.letters)) == (1, 1)


def test_a_failed_run_fails_alike_when_nobody_can_be_told(fed, post):
    post.close()
    fed.edit(estimator=_failing.estimator, attempts=1)
    with pytest.raises(FleetFailed, match="3 of 3 cells"):
        tell_all(fed, trained(fed))
    assert states(fed) == {"keepers": "pending"}


def test_an_error_in_telling_changes_no_runs_result(fed, caplog):
    def broken():
        raise RuntimeError("the connection cannot be looked up")

    fed.resources = replace(fed.resources, mail=broken)
    assert tell_all(fed, trained(fed)) == {"published": 3}
    assert "Telling the owners of run zoo/run-1 ended early" in caplog.text
    assert states(fed) == {"keepers": "pending"}


def test_mail_without_a_relay_waits_and_its_row_says_what_to_add(fed, post):
    fed.resources = replace(fed.resources, mail=lambda: None)
    assert tell_all(fed, trained(fed)) == {"published": 3}
    (row,) = messages(fed)
    assert (row.state, row.attempts) == ("pending", 1)
    assert row.error.startswith("keepers@example.com: No mail relay. Add the connection perennial_mail")


def test_an_owner_without_an_address_is_shown(fed, post, caplog):
    fed.edit(owner=Owner("nomads"))
    assert tell_all(fed, trained(fed)) == {"published": 3}
    assert states(fed) == {"nomads": "nobody to tell"}
    assert "Nobody to tell: nomads has no alerts in its specs. [zoo] 3 of 3 cells published" in caplog.text


def test_a_recipient_who_has_the_message_does_not_get_it_again_with_those_who_lack_it(fed, post):
    post.refused = {"b@example.com"}
    fed.edit(owner=Owner("pair", alerts=("mailto://a@example.com", "mailto://b@example.com")))
    tell_all(fed, trained(fed))
    (row,) = messages(fed)
    assert (row.state, row.reached, post.recipients) == ("pending", ["a@example.com"], ["a@example.com"])
    assert "b@example.com: " in row.error
    post.refused = set()
    tell_all(fed, trained(fed, dry_run=True))
    assert (states(fed), post.recipients) == ({"pair": "sent"}, ["a@example.com", "b@example.com"])


def test_an_owner_who_cannot_be_reached_is_tried_with_the_newest_message_only(fed, post):
    post.close()
    fed.edit(estimator=_failing.estimator, attempts=1)
    for run_id in (trained(fed), trained(fed)):
        with pytest.raises(FleetFailed):
            tell_all(fed, run_id)
    assert {row.run_id: row.attempts for row in messages(fed)} == {"zoo/run-1": 3, "zoo/run-2": 3}


def test_a_report_that_has_lost_patience_leaves_the_rest_to_the_next(fed, post, monkeypatch):
    with monkeypatch.context() as hurried:
        hurried.setattr(tell_step, "PATIENCE_SECONDS", 0)
        tell_all(fed, trained(fed))
    assert (states(fed), post.letters) == ({"keepers": "pending"}, [])
    tell_all(fed, trained(fed, dry_run=True))
    assert len(post.letters) == 1


def test_messages_of_another_fleet_are_left_to_its_own_reports(fed, post):
    fed.sql(
        "INSERT INTO messages (run_id, scope, owner, tier, subject, body) VALUES ('farm/1', 'farm', 'keepers', 2, 's', 'b')"
    )
    tell_all(fed, trained(fed))
    assert [(row.scope, row.state) for row in messages(fed)] == [("farm", "pending"), ("zoo", "sent")]


@pytest.fixture
def hook():
    """A web server that takes what is posted to it."""
    taken = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_that_is_no_mail_goes_through_as_it_is_and_keeps_its_secret(fed, hook, caplog):
    caplog.set_level("DEBUG")
    port, taken = hook
    fed.resources = replace(fed.resources, mail=lambda: None)
    fed.edit(owner=Owner("hooked", alerts=(f"json://ada:hunter2@127.0.0.1:{port}/SECRET-PATH",)))
    tell_all(fed, trained(fed))
    ((path, document),) = taken
    assert (path, document["title"]) == ("/SECRET-PATH", "[zoo] 3 of 3 cells published")
    (row,) = messages(fed)
    assert (row.state, row.reached) == ("sent", ["json://…"])
    assert "Told hooked of run zoo/run-1: json://…" in caplog.text
    shown = caplog.text + str(row)
    assert not [secret for secret in ("hunter2", "SECRET-PATH") if secret in shown]


def test_what_is_too_long_for_a_service_is_cut_unless_its_address_says_otherwise(hook):
    port, taken = hook
    for address in (f"json://127.0.0.1:{port}", f"json://127.0.0.1:{port}?overflow=upstream"):
        delivery.send(delivery.places_of([address])[0], None, "subject", "x" * 40_000)
    assert [len(document["message"]) for _, document in taken] == [32_768, 40_000]
