# SPDX-License-Identifier: Apache-2.0
"""The commands of examples/README.md write the very bytes of examples/, and its jobs can be planned."""

import shlex
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
COMMANDS = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("perseus synth ")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: Path(c.split()[-1]).stem)
def test_commands_write_the_files(perseus, command, tmp_path):
    arguments = shlex.split(command)[1:]
    name = Path(arguments[-1]).name
    arguments[-1] = str(tmp_path / name)
    perseus(*arguments)
    assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()


@pytest.mark.parametrize("job", sorted(EXAMPLES.glob("*.yaml")), ids=lambda j: j.stem)
def test_jobs_can_be_planned(perseus, job):
    plan = perseus("plan", "--job", job).json()
    assert plan["time_s"] <= plan["target_time_s"]
    assert plan["energy_j"] >= plan["lower_bound_j"]
    assert len(plan["ranks"]) == int(job.stem.split("-pp")[1].split("-")[0])
