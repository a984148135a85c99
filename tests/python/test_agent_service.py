# SPDX-License-Identifier: Apache-2.0
"""The agent among its neighbours: service manager, socket, configuration, metrics, and the commands of `perseus`."""

import json
import socket

from node import wait_until


# The service manager, the socket, the configuration.
def test_the_watchdog_is_fed_while_a_driver_hangs(node, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        node.start_agent(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        node.fault(0, "hang")
        with node.client() as client:
            _, box = client.acquire("0")
            box.post(600)
            said = [manager.recv(1000).decode() for _ in range(12)]
        assert said[0] == "READY=1\nSTATUS=2 GPUs, 0 leased, 0 not usable"
        assert said.count("WATCHDOG=1") >= 8
        node.clear(0)
        node.wait_all_back()


def test_a_stale_socket_is_replaced_and_a_live_one_never(node):
    agent = node.start_agent()
    agent.kill()
    assert node.socket.is_socket()
    node.start_agent()
    live = node.socket.stat().st_ino
    node.state_dir = node.folder / "state2"
    second = node.run_agent(check=False)
    assert second.returncode == 3
    assert node.socket.stat().st_ino == live
    assert str(node.socket) in second.stderr
    node.client().close()


def test_files_that_others_may_write_are_not_read(node):
    node.config.chmod(0o666)
    refused = node.run_agent(check=False)
    assert refused.returncode == 3
    assert "others may write to it (mode 0666); run chmod go-w on it" in refused.stderr


def test_metrics_pass_the_check_of_their_format(node):
    node.start_agent()
    node.start_owner("0", [900])
    path = node.socket.parent / "metrics.prom"
    name = f'perseus_gpu_intended_clock_megahertz{{gpu="0",uuid="{node.uuid(0)}"}}'
    wait_until(lambda: path.exists() and node.metric(name) == 900)
    typed = set()
    for line in path.read_text().splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[2] not in typed
            typed.add(line.split()[2])
        elif not line.startswith("#"):
            sample, value = line.rsplit(" ", 1)
            assert sample.split("{")[0] in typed
            float(value)
    intended = json.loads((node.socket.parent / "intended.json").read_text())
    assert intended["format"] == "perseus-intended/1"
    assert intended["gpus"][0]["intended_mhz"] == 900
    assert intended["gpus"][1]["intended_mhz"] is None


# The commands of `perseus`.
def test_perseus_agent_becomes_the_agent(node):
    node.start_agent()
    shown = node.run("agent", "status", "--socket", node.socket)
    assert "backend sim" in shown.stdout
    assert node.run("agent", "--help").stdout.startswith("The node agent of Perseus")
    assert node.run("agent", "--no-such-flag", check=False).returncode == 2


def test_doctor_finds_a_healthy_node_and_says_what_ails_a_sick_one(node):
    node.start_agent()
    arguments = ["doctor", "--backend", "sim", "--socket", node.socket, "--state-dir", node.state_dir, "--json"]
    healthy = json.loads(node.run(*arguments).stdout)
    assert healthy["ok"] is True
    found = {check["name"]: check for check in healthy["checks"]}
    assert found["socket"]["health"] == "ok"
    assert found["gpu_0"]["found"] == "NVIDIA A100-SXM4-80GB: 81 clocks from 210 to 1410 MHz"
    node.fault(0, "mig")
    node.agent.kill()
    sick = node.run(*arguments, check=False)
    assert sick.returncode == 1
    problems = {check["name"] for check in json.loads(sick.stdout)["checks"] if check["health"] == "problem"}
    assert problems == {"gpu_0", "socket"}
    assert all(check["repair"] for check in json.loads(sick.stdout)["checks"] if check["health"] != "ok")
