# SPDX-License-Identifier: Apache-2.0
"""docs/faults.md names tests that exist, and all tests of agent, lease and training job that say whose row they are."""

import re

import pytest

PROCESS_TESTS = (
    *("test_agent.py", "test_agent_drivers.py", "test_agent_peers.py", "test_lease.py"),
    *("test_training_faults.py", "test_training_link.py"),
)
ROOMS = ("agent", "lease")
UNIT_TEST = re.compile(r"^TEST(?:_F)?\((\w+),\s*(\w+)\) \{(?:  // fault table, row (\d+))?", re.MULTILINE)


@pytest.fixture(scope="module")
def rows(root) -> dict[str, str]:
    """Row number -> its line in the page."""
    lines = re.findall(r"^\| (\d+) \|(.*)$", (root / "docs/faults.md").read_text(), re.MULTILINE)
    found = dict(lines)
    assert len(found) == len(lines)
    return found


def test_every_test_that_is_named_exists(root, rows) -> None:
    unit_tests = {
        f"{suite}.{name}"
        for path in (root / "perseus").glob("*/*_test.cc")
        for suite, name, _ in UNIT_TEST.findall(path.read_text())
    }
    for row, line in rows.items():
        named = re.findall(r"`([^`]+)`", line)
        assert named, f"row {row} names no test"
        for name in named:
            if "::" in name:
                file, function = name.split("::")
                assert f"def {function}(" in (root / "tests/python" / file).read_text(), f"row {row}: {name}"
            elif "." in name:
                assert name in unit_tests, f"row {row}: {name}"


def test_every_test_of_a_row_is_named(root, rows) -> None:
    for file in PROCESS_TESTS:
        text = (root / "tests/python" / file).read_text()
        for function in re.findall(r"^def (test_rows?_\w+)\(", text, re.MULTILINE):
            for row in re.findall(r"\d+", re.match(r"test_rows?_(\d+(?:_and_\d+)*)", function)[1]):
                assert f"`{file}::{function}`" in rows[row], f"{function} is not in row {row}"
    for room in ROOMS:
        for path in (root / "perseus" / room).glob("*_test.cc"):
            for suite, name, row in UNIT_TEST.findall(path.read_text()):
                assert not row or f"`{suite}.{name}`" in rows[row], f"{suite}.{name} is not in row {row}"


def test_every_process_test_of_a_row_prints_its_figures(root) -> None:
    for file in PROCESS_TESTS:
        for function in re.split(r"^(?=def |@)", (root / "tests/python" / file).read_text(), flags=re.MULTILINE):
            if name := re.match(r"def (test_rows?_\w+)\(", function):
                assert "figures(" in function or "Tally(" in function, name[1]
