# SPDX-License-Identifier: Apache-2.0
"""Simulated GPUs from outside: `perseus sim`, and unmodified users of NVML that see the same GPUs in other processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
WAIT_S = 60  # until something that takes milliseconds has come true, on however busy a machine
EXPORT = re.compile(r"export (\w+)=(.*)\n")

# A sanitizer's runtime cannot be loaded into a python that was built without it.
loads_library = pytest.mark.skipif(
    os.environ.get("PERSEUS_PRESET") in ("asan-ubsan", "tsan"), reason="the library is built with a sanitizer"
)


class Machine:
    """A simulated machine and what programs need to see it."""

    def __init__(self, perseus, exports: str):
        self.perseus = perseus
        self.exports = dict(EXPORT.findall(exports))
        self.path = self.exports["PERSEUS_SIM"]
        self.environment = {**os.environ, **self.exports}

    def sim(self, command: str, *arguments, **options):
        return self.perseus("sim", command, "--path", self.path, *arguments, **options)

    def show(self, gpu: int = 0) -> dict:
        return self.sim("show", "--json").json()["gpus"][gpu]

    def history(self, gpu: int = 0) -> list[dict]:
        return self.sim("history", "--gpu", gpu, "--json").json()["calls"]

    def python(self, script: str):
        """Runs a script in a process of its own, with NVML started and GPU 0 as `gpu`; the JSON value that it prints."""
        start = "import json, sys\nfrom pynvml import *\nnvmlInit()\ngpu = nvmlDeviceGetHandleByIndex(0)\n"
        done = subprocess.run(
            [sys.executable, "-c", start + script],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None


def wait_until(condition):
    """Polls until `condition()` is true and returns what it gave."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
    raise AssertionError("it did not come true")


@pytest.fixture
def create(perseus, tmp_path):
    """Makes simulated machines: create(flags...) -> Machine; they are gone after the test."""
    paths = []

    def make(*flags, model="a100-sxm-80g"):
        path = tmp_path / f"node{len(paths)}"
        done = perseus("sim", "create", "--gpu-model", model, "--path", path, *flags)
        paths.append(path)
        return Machine(perseus, done.stdout)

    yield make
    for path in paths:
        path.unlink(missing_ok=True)


@pytest.fixture
def machine(create):
    """Two A100s in a world a hundred times as fast as this one."""
    return create("--gpus", 2, "--time-scale", 100)


@pytest.fixture
def busy(machine, perseus_binary):
    """A process that keeps GPU 0 of `machine` at work."""
    command = [perseus_binary, "sim", "run", "--path", machine.path, "--gpu", "0", "--work", "1000000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: machine.show()["sm_clock_mhz"] > 210)
    yield process
    process.kill()
    process.wait()


def test_create_prints_what_a_shell_can_evaluate(perseus, tmp_path, perseus_binary):
    place = tmp_path / "it's a place"
    place.mkdir()
    done = perseus("sim", "create", "--gpus", 1, "--gpu-model", "a40", "--path", place / "node")
    assert [name for name, _ in EXPORT.findall(done.stdout)] == ["PERSEUS_SIM", "PERSEUS_SIM_NVML", "LD_LIBRARY_PATH"]
    script = done.stdout + 'printf "%s\\n" "$PERSEUS_SIM" "$PERSEUS_SIM_NVML" "$LD_LIBRARY_PATH"'
    environment = {**os.environ, "LD_LIBRARY_PATH": ""}
    lines = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[0] == str(place / "node")
    assert Path(lines[1]).name == "libnvidia-ml.so.1"
    assert Path(lines[1]).is_file()
    assert lines[2].split(":")[0] == str(Path(lines[1]).parent)


def test_present_library_path_is_kept_behind_ours(perseus_binary, tmp_path):
    done = subprocess.run(
        [perseus_binary, "sim", "create", "--gpus", "1", "--gpu-model", "a40", "--path", tmp_path / "node"],
        env={**os.environ, "LD_LIBRARY_PATH": "/opt/one:/opt/two"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert dict(EXPORT.findall(done.stdout))["LD_LIBRARY_PATH"].endswith("/perseus-sim:/opt/one:/opt/two")


def test_path_is_new_and_in_memory_where_none_is_given(perseus):
    exports = [perseus("sim", "create", "--gpus", 1, "--gpu-model", "a40").stdout for _ in range(2)]
    paths = {dict(EXPORT.findall(text))["PERSEUS_SIM"] for text in exports}
    assert len(paths) == 2
    for path in paths:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        perseus("sim", "destroy", "--path", path)
        assert not Path(path).exists()


def test_show_has_exactly_the_promised_keys(create):
    machine = create("--gpus", 8)
    gpus = machine.sim("show", "--json").json()
    assert list(gpus) == ["gpus"]
    assert len(gpus["gpus"]) == 8
    for index, gpu in enumerate(gpus["gpus"]):
        assert list(gpu) == ["index", "uuid", "locked_mhz", "sm_clock_mhz", "power_w", "energy_j", "faults"]
        assert gpu["index"] == index
        assert gpu["locked_mhz"] is None
        assert gpu["sm_clock_mhz"] == 210
        assert 40 <= gpu["power_w"] <= 100
        assert gpu["faults"] == []
    assert len({gpu["uuid"] for gpu in gpus["gpus"]}) == 8


def test_same_seed_makes_the_same_gpus(create):
    uuids = [create("--seed", seed).show()["uuid"] for seed in (7, 7, 8)]
    assert uuids[0] == uuids[1] != uuids[2]


@pytest.mark.parametrize("model", ["a100-pcie-80g", "a100-sxm-80g", "a40", "h100-pcie", "h100-sxm", "h200-sxm"])
def test_every_product_holds_its_top_clock_and_the_counter_agrees(create, model):
    machine = create("--gpus", 1, "--time-scale", 1000, model=model)
    done = machine.sim("run", "--gpu", 0, "--work", 2, "--json").json()
    assert list(done) == ["time_s", "energy_j"]
    assert done["time_s"] == pytest.approx(2, abs=1e-8)
    assert 100 < done["energy_j"] / 2 < 700
    assert machine.show()["energy_j"] > done["energy_j"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["create", "--gpus", 0, "--gpu-model", "a40"], 1, "--gpus: 0 is not from 1 to 64"),
        (["create", "--gpus", 65, "--gpu-model", "a40"], 1, "--gpus: 65 is not from 1 to 64"),
        (["create", "--gpu-model", "a41"], 1, '--gpu-model: unknown GPU "a41"; did you mean "a40"?'),
        (["create", "--gpu-model", "a40", "--time-scale", "nan"], 1, "time_scale: nan is not from 0.001 to 1000000"),
        (["create", "--gpu-model", "a40", "--path", "/nowhere/node"], 3, "/nowhere/node: cannot create the state file"),
        (["show"], 3, "no simulated machine: PERSEUS_SIM is not set"),
        (["show", "--path", "/dev/null"], 1, "/dev/null: is no regular file"),
        (["destroy", "--path", "missing"], 3, "missing: cannot open the state of the simulated machine"),
        ([], 2, "A subcommand is required"),
    ],
)
def test_refusals(perseus, monkeypatch, arguments, code, message):
    monkeypatch.delenv("PERSEUS_SIM", raising=False)
    done = perseus("sim", *arguments, expect=code)
    assert done.stdout == ""
    assert done.stderr.startswith(f"perseus: error: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fault", "--gpu", 2, "lost"], "--gpu: 2 is not from 0 to 1, the GPUs of "),
        (["fault", "--gpu", 0, "slow"], "fault slow needs a value: slow=SECONDS"),
        (["fault", "--gpu", 0, "slow=-1"], 'fault slow: value "-1" is not a number from 1e-06 to 3600'),
        (["fault", "--gpu", 0, "melt"], 'unknown fault "melt"; faults: lost permission slow hang stuck'),
        (["fault", "--gpu", 0, "--clear", "reload"], "fault reload happens once and cannot be cleared"),
        (["run", "--gpu", 0, "--work", -1], "a computation of -1 s is not from 0 to 1000000 s"),
        (["run", "--gpu", 0, "--work", 1, "--memory-bound", 2], "memory_bound 2 is not from 0 to 1"),
    ],
)
def test_bad_values_are_refused(machine, arguments, message):
    done = machine.sim(*arguments, expect=1)
    assert done.stdout == ""
    assert done.stderr.startswith(f"perseus: error: {message}")


def test_faults_show_until_they_are_cleared(machine):
    machine.sim("fault", "--gpu", 1, "stuck")
    machine.sim("fault", "--gpu", 1, "power_cap=250")
    assert machine.show(1)["faults"] == ["stuck", "power_cap=250"]
    assert machine.show(0)["faults"] == []
    machine.sim("fault", "--gpu", 1, "--clear", "stuck")
    assert machine.show(1)["faults"] == ["power_cap=250"]
    machine.sim("fault", "--gpu", 1, "--clear")
    assert machine.show(1)["faults"] == []


def test_document_lists_every_fault(perseus):
    page = (ROOT / "docs/simulated_gpu.md").read_text(encoding="utf-8")
    listing = perseus("sim", "fault", "--help").stdout.partition("Faults:\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^  (\S+)\s+(\S.*)$", listing, re.MULTILINE)
    assert len(rows) == 12
    for fault, meaning in rows:
        assert f"| `{fault}` | {meaning} |" in page


@loads_library
def test_nvml_reads_what_show_says(machine):
    seen = machine.python(
        "memory = nvmlDeviceGetSupportedMemoryClocks(gpu)[0]\n"
        "print(json.dumps({'count': nvmlDeviceGetCount(), 'name': nvmlDeviceGetName(gpu), 'uuid': nvmlDeviceGetUUID(gpu),\n"
        "  'clocks': nvmlDeviceGetSupportedGraphicsClocks(gpu, memory), 'sm': nvmlDeviceGetClockInfo(gpu, NVML_CLOCK_SM),\n"
        "  'power_mw': nvmlDeviceGetPowerUsage(gpu), 'energy_mj': nvmlDeviceGetTotalEnergyConsumption(gpu),\n"
        "  'bus': nvmlDeviceGetPciInfo(gpu).busId, 'reasons': nvmlDeviceGetCurrentClocksEventReasons(gpu),\n"
        "  'memory': nvmlDeviceGetMemoryInfo(gpu, version=nvmlMemory_v2).total}))"
    )
    shown = machine.show()
    assert seen["count"] == 2
    assert seen["name"] == "NVIDIA A100-SXM4-80GB"
    assert seen["uuid"] == shown["uuid"]
    assert seen["clocks"] == list(range(1410, 195, -15))
    assert len(seen["clocks"]) == 81
    assert seen["sm"] == shown["sm_clock_mhz"] == 210
    assert seen["power_mw"] == pytest.approx(shown["power_w"] * 1e3, abs=0.5)
    assert 0 < seen["energy_mj"] <= shown["energy_j"] * 1e3
    assert seen["bus"] == "00000000:07:00.0"
    assert seen["reasons"] == 1
    assert seen["memory"] == 80 * 2**30


@loads_library
def test_locked_clock_is_seen_everywhere_and_outlives_its_setter(machine, busy):
    machine.python("nvmlDeviceSetGpuLockedClocks(gpu, 900, 900)")
    assert machine.show()["locked_mhz"] == 900
    assert machine.show(1)["locked_mhz"] is None
    assert wait_until(lambda: machine.show()["sm_clock_mhz"] == 900)
    assert machine.python("print(nvmlDeviceGetClockInfo(gpu, NVML_CLOCK_SM))") == 900
    call = machine.history()[-1]
    assert (call["call"], call["low_mhz"], call["high_mhz"], call["result"]) == ("lock_clock", 900, 900, "ok")
    machine.python("nvmlDeviceResetGpuLockedClocks(gpu)")
    assert machine.show()["locked_mhz"] is None
    assert wait_until(lambda: machine.show()["sm_clock_mhz"] == 1410)


@loads_library
def test_work_takes_the_time_of_its_clock(machine):
    at_top = machine.sim("run", "--gpu", 1, "--work", 5, "--json").json()
    machine.python("nvmlDeviceSetGpuLockedClocks(nvmlDeviceGetHandleByIndex(1), 705, 705)")
    # The new clock is there after 25 simulated milliseconds at the most.
    before = time.monotonic()
    wait_until(lambda: time.monotonic() > before + 0.0025)
    at_half = machine.sim("run", "--gpu", 1, "--work", 5, "--json").json()
    assert at_top["time_s"] == pytest.approx(5, abs=1e-8)
    assert at_half["time_s"] == pytest.approx(10, abs=1e-8)
    assert at_half["energy_j"] < at_top["energy_j"]


@loads_library
def test_processes_on_a_gpu_are_listed_until_they_die(machine, busy):
    listing = "print(json.dumps([p.pid for p in nvmlDeviceGetComputeRunningProcesses(gpu)]))"
    assert machine.python(listing) == [busy.pid]
    busy.send_signal(signal.SIGKILL)
    busy.wait()
    assert machine.python(listing) == []


@loads_library
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("lost", "NVML_ERROR_GPU_IS_LOST"),
        ("permission", "NVML_ERROR_NO_PERMISSION"),
        ("mig", "NVML_ERROR_NOT_SUPPORTED"),
        ("vgpu", "NVML_ERROR_NOT_SUPPORTED"),
    ],
)
def test_faults_reach_users_of_nvml(machine, fault, error):
    attempt = (
        "try:\n  nvmlDeviceSetGpuLockedClocks(nvmlDeviceGetHandleByIndex(0), 900, 900)\n  code = 0\n"
        f"except NVMLError as error:\n  code = error.value\nprint(json.dumps([code, {error}]))"
    )
    script = f"import subprocess\nsubprocess.run(sys.argv[1:], check=True)\n{attempt}"
    binary = os.environ.get("PERSEUS_BIN", ROOT / "build/dev/bin/perseus")
    command = [str(binary), "sim", "fault", "--path", machine.path, "--gpu", "0", fault]
    code, expected = machine.python(f"sys.argv[1:] = {command!r}\n{script}")
    assert code == expected
    assert machine.show()["locked_mhz"] is None


@loads_library
def test_field_values_give_average_and_instant_power(machine, busy):
    script = (
        "fields = [(NVML_FI_DEV_POWER_AVERAGE, 0), (NVML_FI_DEV_POWER_INSTANT, 0)]\n"
        "print(json.dumps([v.value.uiVal for v in nvmlDeviceGetFieldValues(gpu, fields)]))"
    )
    average, instant = machine.python(script)
    assert instant == pytest.approx(machine.show()["power_w"] * 1e3, rel=0.02)  # it is warming up
    assert 40_000 < average < instant * 1.01


@loads_library
def test_destroyed_machine_is_a_driver_that_is_not_loaded(machine):
    machine.sim("destroy")
    script = "from pynvml import *\ntry:\n  nvmlInit()\nexcept NVMLError as e:\n  print(e.value == NVML_ERROR_DRIVER_NOT_LOADED)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=machine.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


@loads_library
def test_zeus_drives_the_simulated_gpus_unmodified(machine, busy):
    seen = machine.python(
        "from zeus.device.gpu import get_gpus\n"
        "gpus = get_gpus()\n"
        "gpus.set_gpu_locked_clocks(0, 1005, 1005)\n"
        "gpus.set_power_management_limit(1, 300000)\n"
        "print(json.dumps({'count': len(gpus.gpus), 'name': gpus.get_name(0), 'memory': gpus.get_supported_memory_clocks(0),\n"
        "  'clocks': gpus.get_supported_graphics_clocks(0, 1593), 'average_mw': gpus.get_average_power_usage(0),\n"
        "  'instant_mw': gpus.get_instant_power_usage(0), 'energy_mj': gpus.get_total_energy_consumption(0),\n"
        "  'has_counter': gpus.supports_get_total_energy_consumption(0), 'limit_mw': gpus.get_power_management_limit(1),\n"
        "  'temperature_c': gpus.get_gpu_temperature(0), 'persistent': gpus.get_persistence_mode(0)}))"
    )
    assert seen["count"] == 2
    assert seen["name"] == "NVIDIA A100-SXM4-80GB"
    assert seen["memory"] == [1593]
    assert len(seen["clocks"]) == 81
    assert seen["instant_mw"] > 100_000
    assert seen["average_mw"] > 40_000
    assert seen["has_counter"] is True
    assert 0 < seen["energy_mj"] <= machine.show()["energy_j"] * 1e3
    assert seen["limit_mw"] == 300_000
    assert 30 <= seen["temperature_c"] < 87
    assert seen["persistent"] is True
    assert machine.show()["locked_mhz"] == 1005
    assert machine.history(1)[-1]["value"] == 300
