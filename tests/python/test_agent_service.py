# SPDX-License-Identifier: Apache-2.0
"""The agent among its neighbours: service manager, socket, configuration, metrics, and the commands of `perseus`."""

import json
import os
import re
import resource
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from figures import Others
from node import PATIENCE_S, EndedError, Node, Process, RefusedError, wait_until


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


def test_of_agents_that_race_for_one_socket_exactly_one_wins(node):
    """With state folders of their own, so that only the socket is between them; over a stale one from the second on."""
    rounds, racers = 12, 4
    for _ in range(rounds):
        agents = []
        for racer in range(racers):
            command = node.agent_command("--state-dir", node.folder / f"state{racer}")
            agents.append(Process(command, node.env, node.folder / f"race{racer}.log"))
            node.keep(agents[-1])
        wait_until(lambda: sum(agent.child.poll() is None for agent in agents) == 1)  # noqa: B023
        (winner,) = (agent for agent in agents if agent.child.poll() is None)
        losers = [agent for agent in agents if agent is not winner]
        assert [agent.child.returncode for agent in losers] == [3] * (racers - 1)
        assert all("another process listens at this socket" in agent.log.read_text() for agent in losers)
        with node.client() as client:
            client.status()
            listens = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            assert struct.unpack("3i", listens)[0] == winner.pid
        winner.kill()
    print(f"{rounds} races of {racers} agents for one socket: each time one won, and it lived")


def unit_line(root: Path, name: str, node: Node) -> list[str]:
    """A command of the agent's unit as systemd would run it on this node, but for PERSEUS_AGENT_FLAGS."""
    text = (root / "packaging/systemd/perseus-agent.service.in").read_text()
    (line,) = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
    words = line.replace("@PERSEUS_LIBEXEC_DIR@", str(node.perseus.parent)).split()
    assert words.count("$PERSEUS_AGENT_FLAGS") == 1
    flags = node.agent_command()[1:]
    at = words.index("$PERSEUS_AGENT_FLAGS")
    return [*words[:at], *flags, *words[at + 1 :]]


def test_the_stop_hook_of_the_unit_looks_where_the_agent_did_whatever_flags_it_was_given(node, root):
    node.agent = node.keep(Process(unit_line(root, "ExecStart", node), node.env, node.log))
    wait_until(node.agent_answers)
    node.start_owner("0", [600])
    node.agent.kill()
    assert node.locked() == {0: 600}
    hook = subprocess.run(
        unit_line(root, "ExecStopPost", node), env=node.env, capture_output=True, text=True, check=True
    )
    assert "back at the driver's default" in hook.stdout
    assert node.locked() == {}


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

    def intended() -> list[int | None]:
        text = json.loads((node.socket.parent / "intended.json").read_text())
        assert text["format"] == "perseus-intended/1"
        return [gpu["intended_mhz"] for gpu in text["gpus"]]

    wait_until(lambda: intended() == [900, None])  # it is written after the metrics


def test_a_socket_may_be_named_from_the_current_folder(node, tmp_path):
    agent = node.keep(Process(node.agent_command("--socket", "agent.sock"), node.env, node.log, cwd=tmp_path))
    node.socket = tmp_path / "agent.sock"
    node.agent = agent
    wait_until(node.agent_answers)
    wait_until((tmp_path / "intended.json").exists)
    assert agent.terminate() == 0
    assert not node.socket.exists()


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


def test_a_reader_of_its_log_that_goes_or_does_not_read_does_not_hold_it_up(node):
    reads, writes = os.pipe()
    with subprocess.Popen(node.agent_command(), env=node.env, stderr=writes, stdin=subprocess.DEVNULL) as agent:
        os.close(writes)
        wait_until(node.socket.exists)
        try:
            with node.client() as client:
                for _ in range(300):  # more than a pipe holds
                    lease, _ = client.acquire("0", "x" * 100)
                    client.release(lease["lease"])
            os.close(reads)
            with node.client() as client:
                client.acquire("0")
            assert agent.poll() is None
            wait_until(lambda: node.metric("perseus_agent_audit_lines_lost_total") > 0)
        finally:
            agent.terminate()
            assert agent.wait(30) == 0


# Floods.
def test_a_flood_of_requests_is_read_at_the_configured_rate_and_others_are_served(node):
    """The rate is per connection: who floods waits for its own answers, and nobody else does."""
    rate, requests = 20, 80
    node.write_config({"clients": {"requests_per_s": rate}})
    node.start_agent()
    with node.client() as flood, Others(node) as others:
        start = time.monotonic()
        for _ in range(requests):
            with pytest.raises(RefusedError, match="this connection holds no lease 77"):
                flood.renew(77)
        took = time.monotonic() - start
        assert json.loads(node.run_agent("status", "--json").stdout)["gpus"][1]["state"] == "leased"
    assert took >= (requests - rate) / rate  # a second's worth at once, the rest as the bucket fills
    others_served = f"{others.requests} requests of others, {others.delayed} delayed"
    print(f"{requests} requests at once, {rate} a second allowed: answered in {took:.2f} s; {others_served}")
    assert others.delayed == 0


def test_who_floods_without_reading_is_cut_off_and_others_are_served(node):
    node.write_config({"clients": {"requests_per_s": 1000}})
    node.start_agent()
    with node.client() as flood, Others(node) as others:
        flood.socket.settimeout(PATIENCE_S)
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                flood.send(b'{"type":"status"}')
                sent += 1
    assert sent > 0
    assert others.delayed == 0
    print(f"cut off after {sent} requests whose answers it did not read; others: {others.requests} requests, 0 delayed")


def test_a_flood_of_connections_is_refused_with_the_reason_and_others_are_served(node):
    node.write_config({"clients": {"max_connections_per_uid": 5}})
    node.start_agent()
    with Others(node) as others:
        kept = [node.client() for _ in range(4)]
        for _ in range(20):
            with node.client(hello=False) as late:
                with pytest.raises(RefusedError) as refused:
                    late.reply()
                assert refused.value.code == "limit"
                assert refused.value.message == f"uid {os.geteuid()} has 5 connections, the limit for one user"
                with pytest.raises(EndedError):
                    late.reply()
        for client in kept:
            client.status()
    assert others.delayed == 0
    assert len(node.audited("connect", result="limit", uid=os.geteuid())) == 20
    kept[0].close()
    wait_until(node.agent_answers)


def test_out_of_descriptors_it_goes_on_and_does_not_spin(node):
    agent = node.start_agent()
    used = len(list(Path(f"/proc/{agent.pid}/fd").iterdir()))
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (used + 6, used + 6))
    waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    for client in waiting:
        client.connect(str(node.socket))
    before = cpu_of(agent.pid)
    time.sleep(1)
    assert cpu_of(agent.pid) - before < 0.5  # of a second: a loop that spins takes all of it
    for client in waiting:
        client.close()
    wait_until(node.agent_answers)


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_waits_for_a_driver_that_comes_late(node):
    hidden = node.folder / "gpus.hidden"
    (node.folder / "gpus").rename(hidden)
    assert node.run_agent(check=False).returncode == 3  # without patience
    agent = node.start_agent("--wait-driver", "60", wait=False)
    wait_until(lambda: "waiting for the driver" in node.log.read_text())
    hidden.rename(node.folder / "gpus")
    wait_until(node.socket.exists)
    assert node.agent_answers()
    assert agent.terminate() == 0
