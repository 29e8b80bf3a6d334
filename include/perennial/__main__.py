"""Commands for people and CI: ``python -m perennial COMMAND``. ``make help`` lists the verbs."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from perennial import authoring
from perennial.errors import PerennialError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 1 when it refuses, with the reason on standard error."""
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        print(chosen.run(chosen))
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="perennial", description="Continuous retraining for fleets of models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add(commands, "check-models", "check every spec and recipe, and what parsing costs", lambda a: authoring.check_models())
    new = _add(
        commands,
        "new-model",
        "write a working skeleton",
        lambda a: authoring.new_model(a.fleet, a.name, a.source, a.target),
    )
    new.add_argument("--fleet", required=True, help="its fleet, a new one where there is none of that name")
    new.add_argument("--name", required=True, help="the model's name: lower case, digits and _")
    new.add_argument("--source", required=True, help="the source it reads")
    new.add_argument("--target", default="", help="the column it predicts")
    one = _add(
        commands,
        "try",
        "train and judge one cell here, publish nothing",
        lambda a: authoring.try_cell(a.model, a.country),
    )
    one.add_argument("--model", required=True)
    one.add_argument("--country", required=True)
    _add(
        commands,
        "freeze",
        "keep recipes that champions need and the tree has lost",
        lambda a: authoring.freeze(),
    )
    check = _add(
        commands,
        "audit",
        "check registry, lake and store against every rule",
        lambda a: authoring.audit(a.deep),
    )
    check.add_argument("--deep", action="store_true", help="load the fits of every champion, too")
    _add_artifacts(commands)
    _add(commands, "migrate", "bring Perennial's database up to date", lambda a: authoring.migrate())
    return parser


def _add_artifacts(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What people do about keys, and after a restore."""
    again = _add(
        commands,
        "resign",
        "sign manifests and pointers again by the signing key, so that a former key can be taken out",
        lambda a: authoring.resign(a.former),
    )
    again.add_argument(
        "--former", type=Path, action="append", default=[], help="a public key that is trusted no more, to check what it signed"
    )
    _add(commands, "deployment", "say whose registry this is: what readers may be given", lambda a: authoring.deployment())
    life = _add(
        commands,
        "restored",
        "after a restore or failover of the registry: let its word count over what it has lost",
        lambda a: authoring.restored(a.reason, a.copy),
    )
    life.add_argument("--reason", required=True, help="what happened, for whoever reads the registry later")
    life.add_argument("--copy", action="store_true", help="it is a copy of a deployment that goes on: give it its own name")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_text: str,
    run: Callable[[argparse.Namespace], str],
) -> argparse.ArgumentParser:  # fmt: skip
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
