"""Flags of options, as both commands that translate offer them."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from serving.messages import LongInput, Options
from serving.option_flags import add_option_flags, chosen_options


def test_flags_choose_options() -> None:
    parser = argparse.ArgumentParser()
    add_option_flags(parser)
    assert chosen_options(parser.parse_args([])) == Options()
    given = ["--beam", "4", "--n-best", "2", "--length-penalty", "0", "--max-length", "9", "--long-input", "split"]
    unnamed = Options(beam_size=4, n_best=2, length_penalty=0.0, max_length=9, long_input=LongInput.SPLIT)
    assert chosen_options(parser.parse_args(given)) == unnamed


def test_a_command_may_leave_a_flag_out_and_change_a_default(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_option_flags(parser, without={"n_best"}, long_input=LongInput.SPLIT)
    assert chosen_options(parser.parse_args([])) == replace(Options(), long_input=LongInput.SPLIT)
    with pytest.raises(SystemExit):
        parser.parse_args(["--n-best", "2"])
    with pytest.raises(SystemExit):
        parser.parse_args(["--long-input", "drop"])
    assert "choose from 'reject', 'split', 'truncate'" in capsys.readouterr().err
