"""``python -m embedded run|replay|stop|exec|sql``: the verbs behind ``make run`` and its kin."""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Table

from embedded import connections, own, replay
from embedded.components import EXAMPLE_CONNECTIONS, command_env, source_connections
from embedded.errors import EmbeddedError, StateInUse
from embedded.examples import EXAMPLES, RIDE_HAILING, SHOP, Example
from embedded.paths import repo_folder, state_folder
from embedded.running import Stack, wanted_port
from perennial import authoring
from perennial.catalog import FleetSpecs, load_catalog
from perennial.connections import variable_of
from perennial.errors import PerennialError, RequestError
from perennial.proposal import Wanted
from perennial.steps.plan import moment
from worlds.packaged import DataError

GOOD, BAD, NO_SETUP, INTERRUPTED = 0, 1, 2, 130


def main() -> int:
    """Run a verb. Its exit code: GOOD, BAD where a run was not, NO_SETUP where it could not even begin, or INTERRUPTED."""
    arguments = _parser().parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        return VERBS[arguments.verb](arguments, console)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (EmbeddedError, PerennialError, DataError) as error:
        console.print(str(error), style="red", markup=False)
        return NO_SETUP


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="embedded", description="The whole stack on one machine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="start everything, and ingest and retrain a fleet, an example's from its world")
    running.add_argument("--stay", type=int, choices=[0, 1], default=1, help="0: exit after the cycles")
    steps = sorted({*own.FREQUENCIES, *(step for example in EXAMPLES.values() for step in example.world.FREQUENCIES)})
    replaying = verbs.add_parser("replay", help="replay a fleet's past to its end, and show what retraining was worth")
    for verb in (running, replaying):
        verb.add_argument("--fleet", default=SHOP.fleet, help="a fleet of the specs (default: shop)")
        verb.add_argument("--every", choices=steps, help="how long a cycle's time is (default: shop month, ride_hailing day)")
        verb.add_argument("--start", type=_moment, help="up to when the first cycle reads (default: the example's history)")
        verb.add_argument("--cycles", type=int, help="how many cycles to replay (default: all there are)")
        verb.add_argument("--pace", type=float, default=0.0, help="the least seconds that an hour of the world takes")
    _add_new_source(verbs.add_parser("new-source", help="write the spec of a table or of files that are there already"))
    verbs.add_parser("stop", help="stop everything of the state folder")
    executing = verbs.add_parser("exec", help="run a command with the state folder's database and store")
    executing.add_argument("command", nargs=argparse.REMAINDER)
    asking = verbs.add_parser("sql", help="print the rows of a query against Perennial's database")
    asking.add_argument("file")
    return parser


def _add_new_source(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--name", required=True, help="the source's name: lower case, digits and _")
    verb.add_argument("--table", default="", help="a table, with its schema before a dot or without")
    verb.add_argument("--file", default="", help="a file of this machine, or its key in the Connection's store")
    verb.add_argument("--connection", default="", help="a Connection; of a file of this machine it is made")
    verb.add_argument("--key", default="", help="the columns that tell rows apart, parted by commas")
    for role, what in (("event-time", "when a row happened"), ("changed-at", "when it was written"), ("country", "where")):
        verb.add_argument(f"--{role}", default="", help=f"the column that says {what}")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Start the stack, make cycles, stay until Ctrl-C unless asked otherwise."""
    make_cycles = _example_cycles(arguments) or _own_cycles(arguments, console)
    stack = Stack(state_folder(), repo_folder())
    started = time.monotonic()
    with stack:
        stack.start(lambda fact: console.print(f"{fact} …", style="dim"), wanted_port())
        console.print(
            f"Airflow: {stack.url}  user [bold]{stack.user}[/bold]  password [bold]{stack.password}[/bold]", soft_wrap=True
        )
        console.print(f"up after {time.monotonic() - started:.0f} s\n", style="dim")
        replay.unpause(stack, "compact")
        good = _survived(lambda: make_cycles(stack, console), console)
        if arguments.stay:
            replay.unpause(stack, "maintain")
            console.print("Airflow stays up, and ingests and retrains by its schedules. Ctrl-C stops it.")
            _wait(stack, math.inf)
    return GOOD if good else BAD


def retrace(arguments: argparse.Namespace, console: Console) -> int:
    """Replay a fleet's past in a state folder of its own, then compare the champions with simpler ways."""
    from embedded.worth import show_worth

    example = own.example_of(arguments.fleet)
    every = example.checked(arguments.every) if example else own.checked(arguments.every)
    if example is RIDE_HAILING and arguments.cycles is None:
        raise EmbeddedError(f"The world of {example.fleet} has no end. Say after how many cycles to look back: CYCLES=30.")
    folder = f"replay-{every}" if arguments.fleet == SHOP.fleet else f"replay-{arguments.fleet}-{every}"
    make_cycles = _example_cycles(arguments, whole_tables=False) or _own_past(arguments, every, console)
    stack = Stack(state_folder() / folder, repo_folder(), {} if example else own.UNSCHEDULED)
    with stack:
        stack.start(lambda fact: console.print(f"{fact} …", style="dim"), wanted_port())
        good = _survived(lambda: make_cycles(stack, console), console)
        show_worth(arguments.fleet, stack, console)
    return GOOD if good else BAD


def _survived(make_cycles: Callable[[], bool], console: Console) -> bool:
    """Whether cycles were good; what stops them is said, and whoever stays looks at it in Airflow."""
    try:
        return make_cycles()
    except (EmbeddedError, PerennialError) as error:
        console.print(str(error), style="red", markup=False)
        return False


Cycles = Callable[[Stack, Console], bool]


def _example_cycles(arguments: argparse.Namespace, whole_tables: bool = True) -> Cycles | None:
    """What replays an example's world; None where the fleet is no example."""
    example = own.example_of(arguments.fleet)
    if example is None:
        return None
    every = example.checked(arguments.every)

    def make(stack: Stack, console: Console) -> bool:
        replay.prepare(example, stack)
        steps = replay.next_steps(example, stack, every, arguments.start)
        steps = replay.paced(steps, arguments.pace, lambda seconds: _wait(stack, seconds))
        return _replay(example, stack, steps, arguments.cycles, console, whole_tables)

    return make


def _replay(
    example: Example, stack: Stack, steps: Iterator[datetime], most: int | None, console: Console, whole_tables: bool
) -> bool:
    good, cycles = True, 0
    while cycles != most:
        step = next(steps, None)
        if step is None:
            console.print("The replay has reached its end. `make clean` starts it over.")
            break
        made = replay.cycle(example, stack, step, console)
        if made is None:
            continue
        cycles, good = cycles + 1, good and made.is_good
        _show(load_catalog().fleet(example.fleet), made, console, whole_tables)
    return good


def _own_cycles(arguments: argparse.Namespace, console: Console) -> Cycles:
    """What ingests and retrains one's own fleet. Raises before anything is started where that cannot be."""
    if arguments.every or arguments.start or arguments.pace:
        raise EmbeddedError(f"EVERY, START and PACE are for replays: {arguments.fleet} reads what its sources hold now.")
    fleet = _own_fleet(arguments, console)
    own.refuse_early(fleet, Stack(state_folder(), repo_folder()))

    def make(stack: Stack, console: Console) -> bool:
        own.prepare(fleet, stack, console)
        good = True
        for _ in range(1 if arguments.cycles is None else arguments.cycles):
            for made in own.cycle(fleet, stack, console):
                _show(fleet.specs, made, console, since="the start of ingest")
                good = good and made.is_good
        return good

    return make


def _own_past(arguments: argparse.Namespace, every: str, console: Console) -> Cycles:
    """What ingests one's own sources once, and retrains as of one moment after the other."""
    if arguments.pace:
        raise EmbeddedError(f"PACE is for the examples: all that {arguments.fleet} reads has happened.")
    fleet = _own_fleet(arguments, console)

    def make(stack: Stack, console: Console) -> bool:
        own.prepare(fleet, stack, console)
        own.ingest(fleet, stack, console)
        steps = own.moments(fleet, stack, every, arguments.start)[: arguments.cycles]

        def show(made: replay.Cycle) -> None:
            _show(fleet.specs, made, console, whole_table=False, since="its trigger")

        return own.retrace(fleet, stack, steps, console, show)

    return make


def _own_fleet(arguments: argparse.Namespace, console: Console) -> own.Own:
    fleet = own.own_fleet(load_catalog(), arguments.fleet)
    for refused in fleet.specs.refused.values():
        for fault in refused.faults:
            console.print(str(fault), style="yellow", markup=False)
    return fleet


def _show(
    specs: FleetSpecs, made: replay.Cycle, console: Console, whole_table: bool = True, since: str = "the world's commit"
) -> None:
    if whole_table and made.outcomes:
        console.print(replay.table(specs, made.run_id, made.outcomes))
    console.print(replay.summary(made, since))


def _wait(stack: Stack, seconds: float) -> None:
    """Let time pass; raises EmbeddedError when something of the stack ends by itself meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        stack.check()
        time.sleep(min(1, left))


def stop(arguments: argparse.Namespace, console: Console) -> int:
    """Stop what a run left behind."""
    stack = Stack(state_folder(), repo_folder())
    holder = stack.lock.holder()
    try:
        stack.lock.acquire()
    except StateInUse:
        if not holder:
            raise
        os.kill(holder, signal.SIGTERM)
        _await_lock(stack)
    stack.stop()
    return GOOD


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _await_lock(stack: Stack) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            stack.lock.acquire()
        except StateInUse:
            time.sleep(0.2)
        else:
            return
    stack.lock.acquire()


def new_source(arguments: argparse.Namespace, console: Console) -> int:
    """Write the spec of a table or of files, and keep the Connection to files of this machine."""
    connection, file = connections.reached(arguments.name, arguments.file, arguments.connection)
    wanted = Wanted(
        key=tuple(filter(None, arguments.key.split(","))),
        event_time=arguments.event_time,
        changed_at=arguments.changed_at,
        country=arguments.country,
    )

    def write() -> int:
        print(authoring.new_source(arguments.name, connection, arguments.table, file, wanted))
        return GOOD

    os.environ.update(connections.given())
    if connection not in EXAMPLE_CONNECTIONS or variable_of(connection) in os.environ:
        return write()
    stack = Stack(state_folder(), repo_folder())

    def write_from_examples() -> int:
        os.environ.update(source_connections(stack.postgres, stack.paths))
        return write()

    return _with_postgres(stack, write_from_examples)


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Run a command beside a running stack, or with PostgreSQL started for it."""
    stack = Stack(state_folder(), repo_folder())
    command = [word for word in arguments.command if word != "--"]
    return _with_postgres(
        stack, lambda: subprocess.run(command, env=command_env(stack.paths, stack.postgres), check=False).returncode
    )


def ask(arguments: argparse.Namespace, console: Console) -> int:
    """Print the rows of a query."""
    stack = Stack(state_folder(), repo_folder())

    def show() -> int:
        with open(arguments.file) as file, stack.postgres.connect("perennial") as database, database.cursor() as cursor:
            cursor.execute(file.read())
            table = Table(*(column.name for column in cursor.description or ()))
            for row in cursor.fetchall():
                table.add_row(*("" if value is None else str(value) for value in row))
        console.print(table)
        return GOOD

    return _with_postgres(stack, show)


def _with_postgres(stack: Stack, action: Callable[[], int]) -> int:
    was_running = stack.postgres.is_running()
    if not was_running:
        stack.lock.acquire()
        stack.start_postgres(lambda fact: None)
    try:
        return action()
    finally:
        if not was_running:
            stack.stop()


VERBS = {"run": run, "replay": retrace, "stop": stop, "exec": execute, "new-source": new_source, "sql": ask}

if __name__ == "__main__":
    sys.exit(main())
