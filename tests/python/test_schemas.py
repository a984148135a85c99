# SPDX-License-Identifier: Apache-2.0
"""What the command line writes keeps the schemas of schema/."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMAS = sorted((ROOT / "schema").glob("*.schema.json"))

# Three clocks of a forward and a backward on two stages: seconds and joules that look like an A100's.
PROFILE = "stage,instruction,frequency,time,energy\n" + "".join(
    f"{stage},{instruction},{clock},{time * 1410 / clock:.6f},{energy * (clock / 1410) ** 1.5:.4f}\n"
    for stage in (0, 1)
    for instruction, time, energy in (("forward", 0.03 + 0.005 * stage, 9.0), ("backward", 0.06, 18.0))
    for clock in (1410, 1200, 990, 780)
)


def schema(name: str) -> dict:
    return json.loads((ROOT / "schema" / f"{name}.schema.json").read_text())


def validate(document: object, name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema(name))
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert errors == []


@pytest.fixture
def job(tmp_path: Path) -> list[object]:
    """Flags of a small job."""
    profile = tmp_path / "p.csv"
    profile.write_text(PROFILE)
    return ["--profile", profile, "--pp", 2, "--microbatches", 4, "--schedule", "1f1b", "--blocking-power", 85]


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_schema_is_one(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_plan_file_of_the_unit_tests() -> None:
    validate(json.loads((ROOT / "tests/data/plan_json/small.json").read_text()), "plan")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: plan.pop("energy_j"),
        lambda plan: plan.update(time_ms=1),
        lambda plan: plan.update(time_s=-1),
        lambda plan: plan.update(schedule_sha256="0"),
        lambda plan: plan["ranks"][0][0].update(clock_mhz=0),
        lambda plan: plan["ranks"][0][0].update(stage_b=1),
        lambda plan: plan["ranks"][0][0].update(kind="FB"),
        lambda plan: plan["certificate"]["edges"].append([0, 1]),
    ],
)
def test_plan_schema_refuses(spoil) -> None:
    plan = json.loads((ROOT / "tests/data/plan_json/small.json").read_text())
    spoil(plan)
    assert not jsonschema.Draft202012Validator(schema("plan")).is_valid(plan)


@pytest.mark.parametrize("question", [[], ["--slowdown", 10], ["--min-energy"], ["--straggler", 1.2]], ids=str)
def test_plan(perseus, job, tmp_path: Path, question: list[object]) -> None:
    perseus("plan", *job, *question, "-o", tmp_path / "plan.json")
    validate(json.loads((tmp_path / "plan.json").read_text()), "plan")


def test_verdict(perseus, job, tmp_path: Path) -> None:
    perseus("plan", *job, "-o", tmp_path / "plan.json")
    verdict = perseus("verify", "--plan", tmp_path / "plan.json", *job, "--json").json()
    validate(verdict, "verdict")
    assert verdict["holds"] is True


@pytest.mark.parametrize("flags", [[], ["--dp", 16], ["--all"], ["--range", "tmax", "--points", 5]], ids=str)
def test_frontier(perseus, job, flags: list[object]) -> None:
    document = perseus("frontier", *job, *flags, "--json").json()
    validate(document, "frontier")
    times = [point["target_time_s"] for point in document["points"]]
    assert times == sorted(times)
    assert times[0] == pytest.approx(document["t_min_s"], rel=1e-9)


def test_job_file_of_the_header() -> None:
    """The example in job_yaml.h keeps the schema."""
    header = (ROOT / "perseus/format/job_yaml.h").read_text()
    lines = [line[5:] for line in header.splitlines() if line.startswith("//   ")]
    validate(yaml.safe_load("\n".join(lines)), "job")
