"""Ports of the embedded stack: however many start at once, no two choose the same."""

import multiprocessing
import socket
from contextlib import ExitStack

import pytest

from embedded import ports
from embedded.components import PORTS, choose_ports
from embedded.errors import EmbeddedError, PortInUse
from embedded.paths import Paths
from embedded.ports import Ports
from embedded.running import wanted_port

STACKS = 4
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def state_of(tmp_path):
    """Makes state folders."""

    def make(name):
        paths = Paths.at(tmp_path / name, tmp_path)
        paths.state.mkdir(exist_ok=True)
        return paths

    return make


@pytest.fixture
def new_stack():
    """Makes the ports of stacks, which have ended by the end of the test."""
    with ExitStack() as ended:

        def make():
            held = Ports()
            ended.callback(held.release)
            return held

        yield make


def race(paths, together, chosen, done):
    held = Ports()
    together.wait()
    chosen.put(choose_ports(paths, held, None))
    done.wait()


def test_stacks_that_start_at_once_choose_different_ports(state_of):
    together, done, chosen = SPAWN.Barrier(STACKS), SPAWN.Event(), SPAWN.Queue()
    racers = [
        SPAWN.Process(target=race, args=(state_of(f"state {number}"), together, chosen, done), daemon=True)
        for number in range(STACKS)
    ]
    for racer in racers:
        racer.start()
    found = [chosen.get(timeout=120) for _ in racers]
    done.set()
    for racer in racers:
        racer.join(60)
    every = [port for each in found for port in each.values()]
    assert len(set(every)) == len(every) == STACKS * len(PORTS)


def test_a_port_is_held_before_anything_listens_on_it_until_its_stack_has_ended(new_stack):
    first, second = new_stack(), new_stack()
    port = first.hold_one([])
    assert (first.hold(port), second.hold(port)) == (False, False)
    first.release()
    assert second.hold(port)


def test_the_ports_of_a_process_that_was_killed_are_free(state_of, new_stack):
    together, done, chosen = SPAWN.Barrier(1), SPAWN.Event(), SPAWN.Queue()
    killed = SPAWN.Process(target=race, args=(state_of("state"), together, chosen, done), daemon=True)
    killed.start()
    port = chosen.get(timeout=120)["mail"]
    after = new_stack()
    assert not after.hold(port)
    killed.kill()
    killed.join(60)
    assert after.hold(port)


def test_a_port_on_which_somebody_listens_is_not_taken(new_stack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not new_stack().hold(server.getsockname()[1])


def test_a_held_port_can_be_listened_on(new_stack):
    with socket.create_server(("127.0.0.1", new_stack().hold_one([]))):
        pass


def test_the_former_runs_ports_are_chosen_again(state_of, new_stack):
    held = new_stack()
    former = choose_ports(state_of("state"), held, None)
    held.release()
    assert choose_ports(state_of("state"), new_stack(), None) == former


def test_a_port_that_was_asked_for_is_the_apis_or_refused_by_its_number(state_of, new_stack):
    port = new_stack().hold_one([])
    with pytest.raises(PortInUse, match=f"Port {port} is in use. Choose another one: make run PORT={port + 1}"):
        choose_ports(state_of("state"), new_stack(), port)
    held = new_stack()
    wanted = held.hold_one([])
    held.release()
    assert choose_ports(state_of("state"), held, wanted)["api"] == wanted


@pytest.mark.parametrize("port", ["-1", "0", "65536", "eighty"])
def test_what_is_no_port_is_refused_as_such(monkeypatch, port):
    monkeypatch.setenv("PORT", port)
    with pytest.raises(EmbeddedError, match=f"PORT={port} is no port"):
        wanted_port()


def test_where_no_port_can_be_had_it_is_said(new_stack, monkeypatch):
    taken = new_stack().hold_one([])
    monkeypatch.setattr(ports, "_any_free_port", lambda: taken)
    with pytest.raises(PortInUse, match="No port is free"):
        new_stack().hold_one([taken])
