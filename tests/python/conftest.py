# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests that drive Perseus from outside.

`perseus` runs the binary that PERSEUS_BIN names (default: the one of preset dev), and fails the test where the exit
code is not the expected one:

    def test_refuses(perseus):
        done = perseus("plan", "--target-time", "0", expect=1)
        assert done.stdout == ""
        assert "T_min" in done.stderr
"""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from node import Node

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 300  # of one run of the binary; a run that takes longer is a failure, not a slow machine


@dataclass(frozen=True)
class Run:
    """What a run of the binary left behind."""

    exit_code: int
    stdout: str
    stderr: str

    def json(self):
        """stdout, which must be one JSON value and nothing else."""
        return json.loads(self.stdout)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def perseus_binary() -> Path:
    """The binary under test."""
    binary = Path(os.environ.get("PERSEUS_BIN", ROOT / "build/dev/bin/perseus")).resolve()
    assert binary.is_file(), f"no binary at {binary}: build a preset, or set PERSEUS_BIN"
    return binary


@pytest.fixture
def perseus(perseus_binary: Path, tmp_path: Path) -> Callable[..., Run]:
    """Runs the binary in an empty folder: perseus(ARGUMENTS..., expect=EXIT_CODE, stdin=TEXT)."""

    def run(*arguments: object, expect: int = 0, stdin: str = "", cwd: Path | None = None) -> Run:
        command = [str(perseus_binary), *map(str, arguments)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=cwd or tmp_path
        )
        assert done.returncode == expect, (
            f"{' '.join(command)}\nended with {done.returncode}, not {expect}\n{done.stdout}\n{done.stderr}"
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def node(perseus_binary: Path, tmp_path: Path):
    """A machine with two simulated GPUs for an agent (node.py)."""
    with Node(perseus_binary, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """Certificate and key of a server at localhost and 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key
