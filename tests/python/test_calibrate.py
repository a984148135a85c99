# SPDX-License-Identifier: Apache-2.0
"""perseus calibrate on the simulated driver: a real guardian, real time, and no GPU left locked."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def simulated(perseus, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A simulated machine with two A100, seen through the environment."""
    lines = perseus("sim", "create", "--gpus", 2, "--gpu-model", "a100-sxm-80g", "--seed", 7).stdout.splitlines()
    for line in lines:
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value.strip("'\""))
    yield
    perseus("sim", "destroy")


def locked(perseus) -> list[int | None]:
    return [gpu["locked_mhz"] for gpu in perseus("sim", "show", "--json").json()["gpus"]]


def test_calibrates_and_brings_the_clock_back(perseus, simulated, tmp_path: Path) -> None:
    output = tmp_path / "gpu1.json"
    done = perseus(
        "calibrate", "--gpu", 1, "--backend", "sim", "--clocks", 3, "--tries", 2, "--state-dir", tmp_path / "state",
        "-o", output, "--json",
    )  # fmt: skip
    document = json.loads(output.read_text())
    assert done.json() == document
    schema = json.loads((ROOT / "schema/calibration.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert [target["clock_mhz"] for target in document["targets"]] == [210, 810, 1410]
    for target in document["targets"]:
        assert target["samples"] + target["unsettled"] + target["throttled"] == 4
    measured = [target["latency"] for target in document["targets"] if target["latency"]]
    assert measured
    # No simulated switch is faster than 2 ms or slower than 100 ms (docs/simulated_gpu.md); a slow test machine may
    # look late, never early.
    assert all(latency["median_s"] >= 0.002 for latency in measured)
    assert document["energy_counter"] is True
    assert document["load"] == "simulated work"
    assert locked(perseus) == [None, None]


def test_says_what_it_needs(perseus, simulated, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    refused = perseus("calibrate", "--gpu", 7, "--backend", "sim", "-o", output, expect=3)
    assert refused.stderr == "perseus: error: GPU 7: there is no such GPU; sim shows 0, 1\n"
    # The simulated driver under another name is a driver like any other: nobody runs work on its GPUs.
    refused = perseus("calibrate", "--gpu", 0, "--backend", "command", "-o", output, expect=1)
    assert "'command' has no options here" in refused.stderr
    refused = perseus("calibrate", "--gpu", 0, "--backend", "cuda", "-o", output, expect=2)
    assert refused.stderr == ("perseus: error: 'cuda' is no backend; there are auto, nvml, amd, sim and command\n")
    assert not output.exists()
    assert locked(perseus) == [None, None]


def test_without_a_simulated_driver(perseus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PERSEUS_SIM_NVML", raising=False)
    refused = perseus("calibrate", "--gpu", 0, "--backend", "sim", "-o", tmp_path / "x.json", expect=3)
    assert "PERSEUS_SIM_NVML is not set; run `eval" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_sample_file_keeps_the_schema() -> None:
    schema = json.loads((ROOT / "schema/calibration.schema.json").read_text())
    document = json.loads((ROOT / "tests/data/calibration_json/small.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    document["targets"][0]["clock_mhz"] = 0
    assert not jsonschema.Draft202012Validator(schema).is_valid(document)
