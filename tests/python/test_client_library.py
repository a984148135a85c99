# SPDX-License-Identifier: Apache-2.0
"""The shared library in real processes: server, agent and ranks, on the simulated driver."""

import os
import signal
from pathlib import Path

import pytest
from client_rank import Rank
from node import Node, wait_until
from server_process import PROFILE, Server

ORDER = "0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3"  # one stage, gpipe
JOB = {"job": "gpt", "pp": 1, "schedule": "gpipe", "microbatches": 4, "blocking_power_w": 85.0, "gpu": "0"}
STAGE_0 = "\n".join(line for line in PROFILE.splitlines() if not line.startswith("1,")) + "\n"


@pytest.fixture
def library(perseus_binary: Path) -> Path:
    built = perseus_binary.parent.parent / "lib" / "libperseus_client.so"
    path = Path(os.environ.get("PERSEUS_CLIENT_LIBRARY", built))
    assert path.is_file(), f"no library at {path}: build perseus_client_shared, or set PERSEUS_CLIENT_LIBRARY"
    return path


@pytest.fixture
def server(perseus_binary: Path, tmp_path: Path):
    with Server(perseus_binary, tmp_path / "server") as running:
        yield running


def rank_env(node: Node, server: Server | None) -> dict[str, str]:
    env = {name: value for name, value in node.env.items() if not name.startswith("PERSEUS_PROFILE")}
    env |= {"PERSEUS_AGENT_SOCKET": str(node.socket), "PERSEUS_PROFILE": "off"}
    return env | ({"PERSEUS_SERVER": f"http://127.0.0.1:{server.port}"} if server else {})


def upload_profile(server: Server) -> None:
    """Once the rank has registered its job."""
    wait_until(lambda: server.call("GET", "/api/v1/jobs/gpt")[0] == 200)
    status, answer = server.call("PUT", "/api/v1/jobs/gpt/profile", STAGE_0, kind="text/csv")
    assert status == 200, answer


def train_until_planned(rank: Rank) -> dict:
    """Steps until a generation is run; the state then."""
    state: dict = {}

    def planned() -> bool:
        state.update(rank.ask("step"))
        return state["generation"] != 0

    wait_until(planned)
    return state


def test_a_rank_gets_a_plan_and_the_gpu_its_clocks(node, server, library):
    node.start_agent()
    with Rank(library, rank_env(node, server), JOB, ORDER, seconds=0.01) as rank:
        assert rank.opened == {"code": 0, "message": ""}
        assert rank.ask("step")["generation"] == 0
        assert node.locked() == {}
        upload_profile(server)
        state = train_until_planned(rank)
        assert (state["unknown_operations"], state["missing_operations"], state["reordered_operations"]) == (0, 0, 0)
        assert state["server_connected"] == 1
        assert state["clock_connected"] == 1
        # A single stage has no slack: the plan for T_min runs everything at the top clock, and says so.
        wait_until(lambda: node.history(0)[-1]["call"] == "lock_clock" or rank.ask("step") is None)
        assert {call["low_mhz"] for call in node.history(0) if call["call"] == "lock_clock"} == {1410}
        assert rank.ask("close") == {"closed": True}
    node.wait_all_back()


def planned_rank(node: Node, server: Server, library: Path) -> Rank:
    """A rank that holds a clock in an open step."""
    node.start_agent()
    rank = Rank(library, rank_env(node, server), JOB, ORDER, seconds=0.002)
    upload_profile(server)
    train_until_planned(rank)
    rank.ask("begin")
    wait_until(lambda: node.locked() == {0: 1410})
    return rank


def test_a_killed_rank_leaves_no_clock_behind(node, server, library):  # fault table, row 3
    with planned_rank(node, server, library) as rank:
        rank.kill()
        node.wait_all_back()


def test_a_fork_keeps_no_lease_alive_and_its_calls_do_nothing(node, server, library):
    with planned_rank(node, server, library) as rank:
        assert rank.ask("state")["sockets"] >= 2  # agent and server
        loader = rank.ask("fork")
        try:
            assert loader["steps"] == 0
            assert loader["sockets"] == 0
            assert rank.ask("state")["clock_connected"] == 1
            assert node.locked() == {0: 1410}
            rank.kill()
            node.wait_all_back()
            os.kill(loader["pid"], 0)  # the loader lives on
        finally:
            os.kill(loader["pid"], signal.SIGKILL)


def test_a_stopped_rank_loses_its_lease_and_takes_the_clock_back(node, server, library):  # row 4
    with planned_rank(node, server, library) as rank:
        rank.child.send_signal(signal.SIGSTOP)
        node.wait_all_back()
        rank.child.send_signal(signal.SIGCONT)
        wait_until(lambda: node.locked() == {0: 1410})


def test_a_rank_that_ends_without_close_is_closed(node, server, library):
    with planned_rank(node, server, library) as rank:
        rank.child.stdin.close()  # its main() returns
        assert rank.child.wait(60) == 0
        released = node.audited("release")
        assert [line["result"] for line in released] == ["ok"]
        node.wait_all_back()


def test_an_agent_that_comes_late_is_found(node, server, library):
    with Rank(library, rank_env(node, server), JOB, ORDER, seconds=0.002) as rank:
        upload_profile(server)
        state = train_until_planned(rank)
        assert state["clock_connected"] == 0
        assert state["clock_mhz"] == 1410
        node.start_agent()
        wait_until(lambda: rank.ask("step")["clock_connected"] == 1)
        rank.ask("begin")
        wait_until(lambda: node.locked() == {0: 1410})


def test_a_dry_run_touches_no_gpu(node, server, library, tmp_path):
    node.start_agent()
    log = tmp_path / "clocks.jsonl"
    env = rank_env(node, server) | {"PERSEUS_BACKEND": f"log:{log}"}
    with Rank(library, env, JOB, ORDER, seconds=0.002) as rank:
        upload_profile(server)
        state = train_until_planned(rank)
        assert state["clock_mhz"] == 1410
        rank.ask("close")
    assert '"kind":"F","stage":0,"microbatch":0,"clock_mhz":1410}' in log.read_text()
    assert node.history(0) == []


def test_switched_off_everything_does_nothing(node, library):
    env = rank_env(node, None) | {"PERSEUS": "0"}
    with Rank(library, env, JOB, ORDER) as rank:
        assert rank.opened == {"code": 0, "message": ""}
        assert rank.ask("step")["steps"] == 0
        assert rank.ask("state")["sockets"] == 0


def test_descriptors_are_closed_on_exec(node, server, library):
    with planned_rank(node, server, library) as rank:
        for entry in Path(f"/proc/{rank.pid}/fdinfo").iterdir():
            target = Path(f"/proc/{rank.pid}/fd/{entry.name}").readlink()
            flags = int(entry.read_text().split("flags:")[1].split()[0], 8)
            inherited = int(entry.name) <= 2
            assert inherited or flags & os.O_CLOEXEC, f"{target} would be inherited"
