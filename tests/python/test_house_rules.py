# SPDX-License-Identifier: Apache-2.0
"""The checks of the tree and the summing up of test results can fail, and say why."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


def load(name: str):
    """A script as a module."""
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    module = module_from_spec(spec_from_loader(name, loader))
    sys.modules[name] = module
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


layers = load("check_layers")
tree = load("check_tree")

ROOMS = """
perseus_room(core LIBS fmt::fmt)
perseus_room(solver DEPS core PRIVATE tree.h walk.h TEST_DEPS certify)  # a comment
perseus_room(certify DEPS core)
perseus_room(report
  DEPS core solver PUBLIC report.h)
perseus_apart(report certify)
"""


@pytest.fixture
def house(tmp_path):
    """Writes a tree: house({path: text}) -> its root."""

    def write(files: dict[str, str]) -> Path:
        defaults = {"perseus/CMakeLists.txt": ROOMS, "scripts/long_files.txt": "", "HACKING.md": ""}
        for name, text in (defaults | files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("file", "include", "complaint"),
    [
        ("solver/a.cc", "core/units.h", None),
        ("report/a.cc", "solver/frontier.h", None),
        ("solver/walk.h", "solver/tree.h", None),
        ("report/plot.h", "solver/frontier.h", None),
        ("report/report.h", "report/plot.h", "a public header includes perseus/report/plot.h, which is private"),
        ("solver/a_test.cc", "certify/check.h", None),
        ("core/a.h", "solver/frontier.h", "core may not include solver (allowed: nothing)"),
        ("solver/a.cc", "certify/check.h", "solver may not include certify (allowed: core)"),
        ("report/a.cc", "certify/check.h", "report may not include certify (allowed: core, solver)"),
        ("report/a.cc", "solver/tree.h", "perseus/solver/tree.h is private to solver"),
        (
            "solver/frontier.h",
            "solver/tree.h",
            "a public header includes perseus/solver/tree.h, which is private",
        ),
    ],
)
def test_layers(house, file, include, complaint):
    root = house({f"perseus/{file}": f'// first\n#include "perseus/{include}"\n'})
    expected = [] if complaint is None else [f"perseus/{file}:2: {complaint}"]
    assert layers.check(root) == expected


def test_layers_refuse_a_folder_without_a_line(house):
    assert layers.check(house({"perseus/attic/a.cc": ""})) == ["perseus/attic: has no line in perseus/CMakeLists.txt"]


def test_layers_refuse_an_upward_edge_in_the_list_itself(house):
    rooms = "perseus_room(core DEPS solver)\nperseus_room(solver DEPS core)\n"
    assert layers.check(house({"perseus/CMakeLists.txt": rooms})) == [
        "perseus/CMakeLists.txt: core depends on solver, which does not stand above it"
    ]


def test_rooms_that_stay_apart_do_not_meet_on_a_detour(house):
    rooms = (
        "perseus_room(agent)\nperseus_room(between DEPS agent)\nperseus_room(server DEPS between)\n"
        "perseus_apart(agent server)\n"
    )
    assert layers.check(house({"perseus/CMakeLists.txt": rooms})) == [
        "perseus/CMakeLists.txt: server reaches agent, and they are to stay apart"
    ]


SPDX = "// SPDX-License-Identifier: Apache-2.0\n"


def test_tree_in_order(house):
    row = "| `perseus/` | all |\n| `perseus/core/` | words |\n| `scripts/` | these |\n"
    root = house({"HACKING.md": row, "perseus/CMakeLists.txt": SPDX, "perseus/core/a.h": SPDX})
    assert tree.check(root) == []


def test_tree_wants_spdx_lines(house):
    root = house({"perseus/core/a.h": "#pragma once\n"})
    assert "perseus/core/a.h: no line `SPDX-License-Identifier: Apache-2.0` at the top" in tree.check(root)


def test_tree_wants_a_reason_for_a_long_file(house):
    long_file = {"perseus/core/a.h": SPDX + "\n" * 600}
    complaint = "perseus/core/a.h: 601 lines, over 600 and without a reason in scripts/long_files.txt"
    assert complaint in tree.check(house(long_file))
    reasons = {"scripts/long_files.txt": "perseus/core/a.h: one table\nperseus/core/b.h: gone\n"}
    found = tree.check(house(long_file | reasons))
    assert complaint not in found
    assert "scripts/long_files.txt: perseus/core/b.h is not longer than 600 lines (any more)" in found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /ro" + "ot/x", "an absolute path of a machine: /ro" + "ot/x"),
        ("/home/some" + "body/x", "an absolute path of a machine: /home/some" + "body/x"),
        ("// TO" + "DO: later", "work left behind: TO" + "DO"),
        ("https://pypi.o" + "rg/simple", "the address of a package host: pypi.o" + "rg"),
    ],
)
def test_tree_refuses_forbidden_words(house, text, what):
    assert f"docs/a.md:1: {what}" in tree.check(house({"docs/a.md": text}))


def test_tree_compares_the_folder_map(house):
    found = tree.check(house({"HACKING.md": "| `attic/` | old |\n", "docs/a.md": ""}))
    assert "HACKING.md: the folder map has no row for docs/" in found
    assert "HACKING.md: the folder map names attic/, which does not exist" in found


def sum_up(*files: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, SCRIPTS / "sum_up", *files], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


CTEST = """<testsuite>
<testcase name="a" classname="a" status="run"/>
<testcase name="b" classname="b" status="run"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/></testcase>
{more}</testsuite>"""
PYTEST = '<testsuites><testsuite><testcase name="c" classname="c"/></testsuite></testsuites>'


def test_sum_of_passed_suites(tmp_path):
    (tmp_path / "ctest.xml").write_text(CTEST.format(more=""))
    (tmp_path / "pytest.xml").write_text(PYTEST)
    assert sum_up(tmp_path / "ctest.xml", tmp_path / "pytest.xml") == (0, "2 passed, 0 failed, 1 skipped\n")


@pytest.mark.parametrize(
    "case",
    [
        '<testcase name="d" classname="d" status="fail"><failure message="no"/></testcase>',
        '<testcase name="d" classname="d" status="notrun"><skipped message="Unable to find executable"/></testcase>',
        '<testcase name="d" classname="d"><skipped message="no browser"/></testcase>',
    ],
)
def test_sum_counts_failed_and_unrun_tests(tmp_path, case):
    (tmp_path / "ctest.xml").write_text(CTEST.format(more=case))
    assert sum_up(tmp_path / "ctest.xml") == (1, "  failed: d d\n1 passed, 1 failed, 1 skipped\n")


def test_a_suite_that_did_not_run_has_failed(tmp_path):
    code, text = sum_up(tmp_path / "absent.xml")
    assert code == 1
    assert text.endswith("0 passed, 1 failed\n")
