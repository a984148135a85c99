# SPDX-License-Identifier: Apache-2.0
"""The agent as a real process on the simulated driver: drivers that hang, go and come, and GPUs that do not obey.

Each test prints its row's figures (figures.py; docs/faults.md has the list). Times are printed, not judged; what is judged
is the end state.
"""

import json
import signal
import time
from pathlib import Path

import pytest
from figures import Others, figures
from node import Node, RefusedError, wait_until


# Rows 10 to 13: drivers.
def test_row_10_a_hanging_driver_stalls_one_gpu_only(node):
    node.write_config({"driver": {"degraded_after_s": 0.2}})
    node.start_agent()
    with node.client() as stuck, node.client() as watcher, Others(node) as others:
        _, box = stuck.acquire("0")
        box.wait(box.post(600))
        node.fault(0, "hang")
        box.post(900)
        wait_until(lambda: watcher.status()["gpus"][0]["state"] == "degraded")
        others.go_on(100)
    node.wait_back(1)  # although GPU 0 hangs
    assert node.locked().keys() == {0}
    node.clear(0)
    took = node.wait_all_back()
    figures(
        10, "driver call hangs", tries=1, left_low=len(node.locked()), others=others, times_s=[took]
    )  # fmt: skip


def test_row_10_a_stop_beside_a_hanging_driver_leaves_the_journal(node):
    agent = node.start_agent()
    with node.client() as client:
        _, box = client.acquire("0")
        box.wait(box.post(600))
        node.fault(0, "hang")
        agent.signal(signal.SIGTERM)
        assert agent.child.wait(30) == 3  # after kStopPatience
    lost = 1 - node.records()
    node.clear(0)
    node.run_agent("--restore")
    figures(10, "agent stopped while a call hangs", tries=1, left_low=len(node.locked()), lost=(lost, 1))


def test_row_11_a_reloaded_driver_is_opened_again(node):
    node.start_agent()
    with node.client() as client:
        _, box = client.acquire("0")
        assert box.wait(box.post(600)) == (600, "applied")
        node.fault(0, "reload=0.3")
        tries = 0
        start = time.monotonic()
        while box.wait(box.post(900)) != (900, "applied"):
            tries += 1
            assert time.monotonic() - start < 30
            time.sleep(0.01)
        assert node.locked() == {0: 900}
        client.close()
        took = node.wait_all_back()
    energies = [gpu["energy_j"] for gpu in node.client().status()["gpus"]]
    assert all(energy >= 0 for energy in energies)
    figures(11, f"driver reloaded, asked {tries + 1} times", tries=1, left_low=len(node.locked()), times_s=[took])


def test_row_11_an_idle_agent_notices_a_reload_by_itself(node):
    node.start_agent()
    node.fault(0, "reload=0.1")
    wait_until(lambda: bool(node.audited("driver", detail="opened again", result="ok")))
    with node.client() as client:
        _, box = client.acquire("1")
        assert box.wait(box.post(900)) == (900, "applied")
    took = node.wait_all_back()
    figures(11, "driver reloaded, agent idle", tries=1, left_low=len(node.locked()), times_s=[took])


def of_the_driver(node: Node, pid: int) -> list[str]:
    """Files of the driver that a process has open or mapped: its library, and its devices' state."""
    opened = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    mapped = [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    library = str(Path(node.env["PERSEUS_SIM_NVML"]).resolve())
    return sorted({name for name in opened + mapped if name == library or name.startswith(str(node.folder / "gpus"))})


def test_row_12_quiesced_the_agent_holds_nothing_of_the_driver(node):
    agent = node.start_agent()
    node.start_owner("0", [600])
    assert len(of_the_driver(node, agent.pid)) >= 2
    start = time.monotonic()
    node.run_agent("quiesce")
    took = time.monotonic() - start
    assert node.locked() == {}
    assert of_the_driver(node, agent.pid) == []
    with node.client() as client, pytest.raises(RefusedError, match="quiesced"):
        client.acquire("0")
    status = json.loads(node.run_agent("status", "--json").stdout)
    assert status["quiesced"] is True
    assert {gpu["state"] for gpu in status["gpus"]} == {"quiesced"}
    assert node.run_agent("resume").stdout == "resumed\n"
    with node.client() as client:
        client.acquire("0")
    figures(12, "quiesced", tries=1, left_low=len(node.locked()), times_s=[took])


def test_row_12_quiesced_for_a_time_it_resumes_by_itself(node):
    node.start_agent()
    node.run_agent("quiesce", "--for", "0.2")
    wait_until(lambda: json.loads(node.run_agent("status", "--json").stdout)["quiesced"] is False)
    wait_until(lambda: bool(node.audited("driver", detail="opened again")))
    figures(12, "quiesced for a time", tries=1, left_low=len(node.locked()))


def test_row_13_a_lost_gpu_leaves_the_others_alone(node):
    node.start_agent()
    with node.client() as client, Others(node) as others:
        _, box = client.acquire("0")
        box.wait(box.post(600))
        node.fault(0, "lost")
        box.post(900)
        assert "lease" in client.wait_ended()
        others.go_on(100)
        wait_until(lambda: client.status()["gpus"][0]["state"] == "lost")
        with pytest.raises(RefusedError) as refused:
            client.acquire("0")
        assert refused.value.code == "device_lost"
    node.clear(0)
    took = node.wait_all_back()
    figures(13, "GPU lost", tries=1, left_low=len(node.locked()), others=others, times_s=[took])


# Rows 26 to 28: who sets the clock.
FAST = {"telemetry": {"sample_period_s": 0.05}, "driver": {"settle_s": 0.1}}


def test_row_26_a_throttled_gpu_is_recorded_and_not_mistaken_for_another_writer(node):
    node.write_config(FAST)
    node.start_agent()
    node.start_work(0, 60)
    with node.client() as client:
        _, box = client.acquire("0")
        box.wait(box.post(1200))
        node.fault(0, "throttle=600")
        metric = f'perseus_gpu_clock_reason_seconds_total{{gpu="0",uuid="{node.uuid(0)}",reason="hardware_thermal"}}'
        wait_until(lambda: node.metric(metric) > 1)
        assert client.status()["gpus"][0]["state"] == "leased"
    took = node.wait_all_back()
    figures(26, "throttled by heat", tries=1, left_low=len(node.locked()), times_s=[took])


def test_row_27_another_writer_is_seen_and_left_alone(node):
    node.write_config(FAST)
    node.start_agent()
    node.start_work(0, 60)
    with node.client() as client:
        _, box = client.acquire("0")
        box.wait(box.post(1200))
        wait_until(lambda: client.status()["gpus"][0]["sm_clock_mhz"] == 1200)
        time.sleep(1)  # so that readings have seen it settled
        node.lock_from_outside(0, 600)
        start = time.monotonic()
        ended = client.wait_ended()
        took = time.monotonic() - start
        assert "another program sets this clock" in ended["reason"]
        wait_until(lambda: box.applied()[2] == "yielded")
        assert client.status()["gpus"][0]["state"] == "yielded"
        assert node.locked() == {0: 600}  # theirs
        with pytest.raises(RefusedError, match="another program sets this clock"):
            client.acquire("0")
    assert node.audited("yield")
    assert node.agent.terminate() == 0
    assert node.locked() == {0: 600}  # still theirs
    figures(
        27, "another program sets the clock, seen", tries=1, left_low=len(node.locked().keys() - {0}), times_s=[took]
    )


def test_row_28_a_clock_that_does_not_follow_is_uncontrollable(node):
    node.write_config(FAST)
    node.start_agent()
    node.start_work(0, 60)
    with node.client() as client:
        _, box = client.acquire("0")
        node.fault(0, "stuck")
        assert box.wait(box.post(600)) == (600, "applied")  # says the driver
        start = time.monotonic()
        ended = client.wait_ended()
        took = time.monotonic() - start
        assert "the driver accepts 600 MHz but the clock stays at 1410 MHz" in ended["reason"]
        assert client.status()["gpus"][0]["state"] == "uncontrollable"
    node.clear(0)
    figures(28, "the clock does not follow, seen", tries=1, left_low=len(node.locked()), times_s=[took])


# Row 34: GPUs that cannot be set.
@pytest.mark.parametrize("fault", ["mig", "vgpu"])
def test_row_34_mig_and_virtual_gpus_are_refused_with_the_reason_and_read(node, fault):
    node.fault(0, fault)
    node.start_agent()
    reason = {
        "mig": "GPU 0: MIG is enabled, and the driver locks no clock of a partitioned GPU",
        "vgpu": "GPU 0: this is a virtual GPU (vGPU): its clocks belong to the machine that hosts it",
    }
    with node.client() as client, Others(node) as others:
        assert client.welcome["gpus"][0]["controllable"] is False
        with pytest.raises(RefusedError) as refused:
            client.acquire("0")
        assert (refused.value.code, refused.value.message) == ("unsupported", reason[fault])
        wait_until(lambda: client.status()["gpus"][0]["power_w"] is not None)
    assert node.history(0) == []
    figures(34, fault, tries=1, left_low=len(node.locked()), others=others)
