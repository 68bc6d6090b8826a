"""placeholder"""
from dataclasses import dataclass
from typing import Literal
@dataclass(frozen=True, kw_only=True)
class RnnSettings:
    family: Literal["rnn"] = "rnn"
