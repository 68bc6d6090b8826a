"""Command-line flags of translation options, as :mod:`serving.messages` declares them."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import fields
from enum import StrEnum
from typing import Any

from serving.messages import Flag, Options

_LARGEST = 2**31 - 1  # what the request can hold


def add_option_flags(parser: argparse.ArgumentParser, *, without: Collection[str] = (), **defaults: object) -> None:
    """Add the flag of every option that has one.

    Args:
        parser: The command's parser.
        without: Names of options that the command does not offer.
        defaults: Values that replace the options' own defaults, by name.
    """
    for option in fields(Options):
        flag: Flag | None = option.metadata.get("flag")
        if flag is None or option.name in without:
            continue
        choices = [choice.value for choice in flag.kind] if issubclass(flag.kind, StrEnum) else None
        parser.add_argument(
            flag.name,
            dest=option.name,
            default=defaults.get(option.name, option.default),
            type=whole_number if flag.kind is int else str if choices else flag.kind,
            choices=choices,
            metavar=flag.metavar,
            help=flag.help,
        )


def chosen_options(arguments: argparse.Namespace) -> Options:
    """Return the options that a command line chose."""
    chosen: dict[str, Any] = {}
    for option in fields(Options):
        flag: Flag | None = option.metadata.get("flag")
        if flag is not None and option.name in arguments:
            value = getattr(arguments, option.name)
            chosen[option.name] = value if value is None else flag.kind(value)
    return Options(**chosen)


def whole_number(value: str) -> int:
    """Parse a whole number above 0.

    Raises:
        argparse.ArgumentTypeError: It is something else.
    """
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= _LARGEST):
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 1 to {_LARGEST}")
    return int(value)
