"""Containers of the images that `make image-test` built, run as strictly as the image allows."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

ENGINE = os.environ.get("ENGINE", "podman")
ULIMITS = {"nofile": 1024, "nproc": 4096}  # an engine that is itself confined may not give its usual ones
# Nothing in the container is to be written, gained or taken.
STRICT = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *(f"--ulimit={name}={limit}:{limit}" for name, limit in ULIMITS.items()),
    *(("--read-only-tmpfs=false",) if ENGINE == "podman" else ()),
)


def image(name: str) -> str:
    """One of our images, as `make image-test` built it; skips the test where it was not that which began it."""
    if tag := os.environ.get("IMAGE_TAG"):
        return f"dragoman/{name}:{tag}"
    pytest.skip("needs container images: `make image-test` builds them and tests them")


def engine(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command of the container engine."""
    done = subprocess.run([ENGINE, *arguments], capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode:
        pytest.fail(f"{ENGINE} {' '.join(arguments)} exited with {done.returncode}: {done.stderr}")
    return done


def inspect(image: str) -> dict[str, Any]:
    """What the engine knows of an image."""
    (found,) = json.loads(engine("image", "inspect", image).stdout)
    return dict(found)


@dataclass(frozen=True)
class Container:
    """A running container whose server has HOST:PORT for gRPC and for HTTP on this machine."""

    name: str
    grpc: str
    http: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside."""
        return engine("exec", self.name, *command, check=False)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of the server's answer over HTTP; status 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_for(self, path: str, text: str) -> None:
        """Waits until the server's answer over HTTP is a good one that has ``text`` in it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status, body = self.get(path)
            if status == 200 and text in body:
                return
            time.sleep(0.02)
        pytest.fail(f"no {text!r} in {path} of {self.name}, which said: {self.log()}")

    def signal(self, name: str) -> None:
        """Sends a signal to its first process."""
        engine("kill", f"--signal={name}", self.name)

    def wait(self) -> int:
        """Waits for its end; returns the exit status."""
        return int(engine("wait", self.name).stdout)

    def ready(self) -> dict[str, Any]:
        """Waits for the line with which the server says that it is ready, and where it listens."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if line := next((line for line in self.log() if line["event"] == "ready"), None):
                return line
            time.sleep(0.1)
        pytest.fail(f"{self.name} was never ready; it said: {self.log()}")

    def log(self) -> list[dict[str, Any]]:
        """The lines its server logged."""
        done = engine("logs", self.name)
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]


@contextmanager
def container(image: str, *options: str, ports: Sequence[int] = (0, 0), network: str = "host") -> Iterator[Container]:
    """Starts an image; removes the container in the end, whatever became of it."""
    listen, http = (f"127.0.0.1:{port}" for port in ports)
    environment = (f"--env=DRAGOMAN_LISTEN={listen}", f"--env=DRAGOMAN_HTTP={http}")
    name = engine("run", "--detach", f"--network={network}", *STRICT, *environment, *options, image).stdout.strip()
    try:
        yield Container(name, listen, http)
    finally:
        engine("rm", "--force", name)
