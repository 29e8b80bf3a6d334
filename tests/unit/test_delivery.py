"""Delivery: what is read from addresses, and that none of their secrets leaves."""

import logging
from dataclasses import replace

import pytest

from perennial.errors import AddressError, Undelivered
from perennial.resources import MailRelay
from perennial.shell.delivery import is_readable, places_of, send

RELAY = MailRelay(host="127.0.0.1", port=9, sender="perennial@example.com", security="none")
SECRETS = ("hunter2", "T0KEN", "HOOK-PATH")
SECRET_ADDRESS = "json://ada:hunter2@127.0.0.1:9/HOOK-PATH?+X-Key=T0KEN"


def names(*alerts):
    return [place.name for place in places_of(alerts)]


def test_mail_is_named_by_its_recipient():
    assert names("mailto://pricing@example.com", "mailtos://ops@example.com") == ["pricing@example.com", "ops@example.com"]


def test_each_recipient_of_an_address_is_a_place():
    assert names("mailto://a@example.com?to=b@example.com,c@example.com&cc=d@example.com") == [
        "b@example.com", "c@example.com", "d@example.com"
    ]  # fmt: skip


def test_a_place_named_twice_is_one():
    assert names("mailto://a@example.com", "mailto://a@example.com") == ["a@example.com"]


def test_other_addresses_are_named_by_their_kind_alone():
    assert names(SECRET_ADDRESS, f"{SECRET_ADDRESS}2", "mailto://ada:hunter2@example.com") == [
        "json://…", "json://… (2)", "mailto://…"
    ]  # fmt: skip


def test_a_place_never_shows_its_address():
    assert not [secret for secret in SECRETS if secret in repr(places_of([SECRET_ADDRESS]))]


def test_a_relay_never_shows_its_password():
    assert "hunter2" not in repr(MailRelay(host="h", password="hunter2"))


@pytest.mark.parametrize(
    "address", ["mailto://pricing@example.com", "json://localhost/hook", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"]
)
def test_what_apprise_understands_is_readable(address):
    assert is_readable(address)


@pytest.mark.parametrize(
    "address", ["", "pricing@example.com", "mailto://", "mailto://nobody", "carrier-pigeon://x", "slack://T1"]
)
def test_what_apprise_does_not_understand_is_not(address):
    assert not is_readable(address)


def test_mail_without_a_relay_names_the_connection_to_add():
    with pytest.raises(AddressError, match="Add the connection perennial_mail"):
        send(places_of(["mailto://pricing@example.com"])[0], None, "subject", "body")


@pytest.mark.parametrize("changes", [{"host": ""}, {"security": "rot13"}, {"sender": ""}])
def test_a_relay_that_cannot_be_used_is_named(changes):
    relay = MailRelay(**{"host": "127.0.0.1", "sender": "perennial@example.com", "security": "none"} | changes)
    with pytest.raises(AddressError, match="perennial_mail cannot be used"):
        send(places_of(["mailto://pricing@example.com"])[0], relay, "subject", "body")


def test_an_address_that_cannot_be_read_is_said_without_it():
    with pytest.raises(AddressError, match=r"^Apprise cannot read this address"):
        send(places_of(["slack://hunter2"])[0], RELAY, "subject", "body")


def test_a_server_that_is_away_is_named_with_the_systems_words():
    with pytest.raises(Undelivered, match=r'email to "127.0.0.1"\. .*Connection refused'):
        send(places_of(["mailto://pricing@example.com"])[0], RELAY, "subject", "body")


def test_neither_errors_nor_logs_hold_secrets(caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Undelivered) as raised:
        send(places_of([SECRET_ADDRESS])[0], RELAY, "subject", "body")
    assert not is_readable("slack://hunter2")
    said = str(raised.value) + caplog.text
    assert not [secret for secret in SECRETS if secret in said]
    assert "127.0.0.1" not in caplog.text


def test_what_is_said_of_a_failure_leaves_out_each_part_of_the_address_and_the_password():
    with pytest.raises(Undelivered, match=r"notification to \*\*\*$"):
        send(places_of([SECRET_ADDRESS])[0], RELAY, "subject", "body")
    with pytest.raises(Undelivered, match=r"Connection \*\*\*$"):
        send(places_of(["mailto://pricing@example.com"])[0], replace(RELAY, password="refused"), "subject", "body")


def test_what_apprise_logs_is_left_as_it_was():
    before = [(logging.getLogger(name).propagate, logging.getLogger(name).level) for name in ("apprise", "urllib3")]
    is_readable("mailto://pricing@example.com")
    assert [(logging.getLogger(name).propagate, logging.getLogger(name).level) for name in ("apprise", "urllib3")] == before
