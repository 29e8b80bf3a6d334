"""``python -m embedded run|stop|exec|sql``: the verbs behind ``make run`` and its kin."""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.table import Table

from embedded.components import command_env
from embedded.errors import EmbeddedError, StateInUse
from embedded.examples import EXAMPLES, SHOP, Example
from embedded.paths import repo_folder, state_folder
from embedded.running import Stack, wanted_port
from perennial.catalog import load_catalog
from perennial.errors import PerennialError, RequestError
from perennial.steps.plan import moment
from worlds.packaged import DataError

GOOD, BAD, NO_SETUP, INTERRUPTED = 0, 1, 2, 130


def main() -> int:
    """Run a verb; the exit codes are those the README promises."""
    parser = argparse.ArgumentParser(prog="embedded", description="The whole stack on one machine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="start everything and replay the example")
    running.add_argument("--fleet", choices=sorted(EXAMPLES), default=SHOP.fleet, help="which example to replay")
    running.add_argument("--stay", type=int, choices=[0, 1], default=1, help="0: exit after the cycles")
    steps = sorted({step for example in EXAMPLES.values() for step in example.world.FREQUENCIES})
    replaying = verbs.add_parser("replay", help="replay the shop to its end, and show what retraining was worth")
    for verb in (running, replaying):
        verb.add_argument("--every", choices=steps, help="how long a cycle's time is (default: shop month, ride_hailing day)")
        verb.add_argument("--start", type=_moment, help="up to when the first cycle reads (default: the example's history)")
        verb.add_argument("--cycles", type=int, help="how many cycles to replay (default: all there are)")
        verb.add_argument("--pace", type=float, default=0.0, help="the least seconds that an hour of the world takes")
    verbs.add_parser("stop", help="stop everything of the state folder")
    executing = verbs.add_parser("exec", help="run a command with the state folder's database and store")
    executing.add_argument("command", nargs=argparse.REMAINDER)
    asking = verbs.add_parser("sql", help="print the rows of a query against Perennial's database")
    asking.add_argument("file")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        return VERBS[arguments.verb](arguments, console)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (EmbeddedError, PerennialError, DataError) as error:
        console.print(str(error), style="red", markup=False)
        return NO_SETUP


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Start the stack, replay cycles, stay until Ctrl-C unless told otherwise."""
    example = EXAMPLES[arguments.fleet]
    every = example.checked(arguments.every)
    stack = Stack(state_folder(), repo_folder())
    started = time.monotonic()
    with stack:
        stack.start(lambda fact: console.print(f"{fact} …", style="dim"), wanted_port())
        console.print(
            f"Airflow: {stack.url}  user [bold]{stack.user}[/bold]  password [bold]{stack.password}[/bold]", soft_wrap=True
        )
        console.print(f"up after {time.monotonic() - started:.0f} s\n", style="dim")
        stack.api.wait_for_dag("compact")
        stack.api.unpause("compact")
        good = _replay(example, stack, every, arguments, console, whole_tables=True)
        if arguments.stay:
            stack.api.wait_for_dag("maintain")
            stack.api.unpause("maintain")
            console.print("The replay has paused; Airflow stays up. Ctrl-C stops it.")
            _wait(stack, math.inf)
    return GOOD if good else BAD


def replay(arguments: argparse.Namespace, console: Console) -> int:
    """Replay the shop's cycles in a state folder of their own, then compare the champions with simpler ways."""
    from embedded.worth import show_worth

    every = SHOP.checked(arguments.every)
    stack = Stack(state_folder() / f"replay-{every}", repo_folder())
    with stack:
        stack.start(lambda fact: console.print(f"{fact} …", style="dim"), wanted_port())
        good = _replay(SHOP, stack, every, arguments, console, whole_tables=False)
        show_worth(SHOP, stack, console)
    return GOOD if good else BAD


def _replay(
    example: Example, stack: Stack, every: str, arguments: argparse.Namespace, console: Console, whole_tables: bool
) -> bool:
    from embedded import replay

    replay.prepare(example, stack)
    steps = replay.next_steps(example, stack, every, arguments.start)
    steps = replay.paced(steps, arguments.pace, lambda seconds: _wait(stack, seconds))
    specs, good, cycles = load_catalog().fleet(example.fleet), True, 0
    try:
        while cycles != arguments.cycles:
            step = next(steps, None)
            if step is None:
                console.print("The replay has reached its end. `make clean` starts it over.")
                break
            made = replay.cycle(example, stack, step, console)
            if made is None:
                continue
            cycles, good = cycles + 1, good and made.is_good
            if whole_tables:
                console.print(replay.table(specs, made.run_id, made.outcomes))
            console.print(replay.summary(made))
    except (EmbeddedError, PerennialError) as error:
        console.print(str(error), style="red", markup=False)
        return False
    return good


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


VERBS = {"run": run, "replay": replay, "stop": stop, "exec": execute, "sql": ask}

if __name__ == "__main__":
    sys.exit(main())
