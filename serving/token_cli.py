"""``dragoman-serve token new``: a new bearer token and its line for the file of ``--tokens``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from serving.tokens import Role, new_token


def main(argv: Sequence[str]) -> int:
    """Run the command; a wrong command line exits with 2."""
    parser = argparse.ArgumentParser(prog="dragoman-serve token", description="Bearer tokens of callers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    new = commands.add_parser(
        "new",
        help="make a token",
        description="Print a new token, which is kept nowhere, and the line to append to the file of --tokens.",
    )
    new.add_argument("--name", required=True, help="name of who gets it: letters, digits, dots, dashes, underscores")
    new.add_argument("--role", required=True, type=Role, choices=list(Role), help="role of who gets it")
    arguments = parser.parse_args(argv)
    try:
        token, line = new_token(arguments.name, arguments.role)
    except ValueError as error:
        parser.error(str(error))
    print(f"token, shown only now: {token}")
    print(f"line for --tokens FILE: {line}")
    return 0
