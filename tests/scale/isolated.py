"""Commands in a network of their own: Ray and torchrun listen on every interface, and there only is the loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

import pytest

needs_scale_test = pytest.mark.skipif(
    "SCALE_TEST" not in os.environ, reason="heavy, and needs more packages: make scale-test runs it"
)


def isolated(command: Sequence[str]) -> list[str]:
    """The command behind ``unshare``, or as it is where the machine has no namespaces for us."""
    return [*_prefix(), *command]


@cache
def _prefix() -> tuple[str, ...]:
    own = ("unshare", "--net", *(("--user", "--map-root-user") if os.geteuid() else ()))
    if not shutil.which("unshare") or not shutil.which("ip"):
        return ()
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode != 0:
        return ()
    return (*own, "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
