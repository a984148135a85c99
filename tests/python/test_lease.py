# SPDX-License-Identifier: Apache-2.0
"""`perseus lease` on the simulated driver, through the agent and in direct mode, and what is left when its processes
are killed in any order. What counts is what the driver says.

PERSEUS_KILLS=60 kills sixty times per order instead of three.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from figures import figures
from node import PATIENCE_S, Node, Process, wait_until

KILLS = int(os.environ.get("PERSEUS_KILLS", "3"))
MODES = ["agent", "direct"]


@pytest.fixture
def node(perseus_binary: Path, tmp_path: Path):
    with Node(perseus_binary, tmp_path) as made:
        yield made
        for pid in guards(made):
            os.kill(pid, signal.SIGKILL)


def flags(node: Node, mode: str, gpu: object = 0, clock: int = 900) -> list[str]:
    way = (
        ["--socket", node.socket]
        if mode == "agent"
        else ["--direct", "--backend", "sim", "--state-dir", node.state_dir]
    )
    return ["lease", "--gpu", str(gpu), "--clock", str(clock), *map(str, way)]


def lease(node: Node, mode: str, *command: str, gpu: object = 0, clock: int = 900, more: tuple[str, ...] = ()):
    """Runs `perseus lease ... -- COMMAND` to its end."""
    return node.run(*flags(node, mode, gpu, clock), *more, "--", *command, check=False)


def start_lease(node: Node, mode: str, *command: str, wait: bool = True, gpu: object = 0) -> Process:
    arguments = [str(node.perseus), *flags(node, mode, gpu), "--", *command]
    process = node.keep(Process(arguments, node.env, node.folder / "lease.log", stdout=subprocess.DEVNULL))
    if wait:
        wait_until(lambda: node.locked().get(gpu) == 900)
    return process


def start_node(node: Node, mode: str) -> None:
    if mode == "agent":
        node.start_agent()


def guards(node: Node) -> dict[int, int]:
    """Guardian processes of this node: pid -> parent's pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if b"guard" not in arguments or str(node.state_dir).encode() not in arguments:
                continue
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            found[int(entry.name)] = int(fields[1])
    return found


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_everybody(node: Node, owner: Process) -> None:
    """Owner and guardian, all stopped first: none can act between the others' deaths and its own."""
    everybody = [owner.pid, *guards(node)]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    kill(*everybody)
    owner.child.wait(PATIENCE_S)
    wait_until(lambda: not guards(node))


def kill_worker(node: Node) -> None:
    """The guardian's half that makes the driver calls: the child of the other half."""
    family = guards(node)
    kill(*(pid for pid, parent in family.items() if parent in family))


def kill_watcher(node: Node) -> None:
    family = guards(node)
    kill(*(pid for pid, parent in family.items() if parent not in family))


# What a user sees.
@pytest.mark.parametrize("mode", MODES)
def test_a_command_runs_under_the_clock_and_the_clock_comes_back(node, mode):
    start_node(node, mode)
    done = lease(node, mode, str(node.perseus), "sim", "show", "--json")
    assert done.returncode == 0
    assert '"locked_mhz":900' in done.stdout
    assert node.locked() == {}
    uuid = node.uuid(0)
    lines = done.stderr.splitlines()
    assert re.fullmatch(
        rf"perseus lease: GPU 0 \({uuid}\) at 900 MHz, through .* \(version .*, backend sim\)", lines[0]
    )
    assert lines[1:] == [f"perseus lease: GPU 0 ({uuid}) back at its default clock"]
    assert list(node.state_dir.glob("*.lease")) == []


@pytest.mark.parametrize("mode", MODES)
def test_quiet_says_nothing(node, mode):
    start_node(node, mode)
    done = lease(node, mode, "true", more=("--quiet",))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_is_named_by_its_uuid_too(node, mode):
    start_node(node, mode)
    done = lease(node, mode, "true", gpu=node.uuid(1))
    assert done.returncode == 0
    assert [call["call"] for call in node.history(1)][-2:] == ["lock_clock", "reset_clock"]
    assert node.history(0) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255)]
)
def test_the_exit_status_is_the_commands(node, mode, script, code):
    start_node(node, mode)
    assert lease(node, mode, "sh", "-c", script).returncode == code
    assert node.locked() == {}


def test_what_stands_after_the_dashes_is_the_commands_own(node):
    node.start_agent()
    done = lease(node, "agent", "echo", "--gpu", "1", "--help", "--", "plan")
    assert (done.returncode, done.stdout) == (0, "--gpu 1 --help -- plan\n")


def test_a_command_that_cannot_be_run_is_127_and_the_clock_comes_back(node):
    node.start_agent()
    done = lease(node, "agent", "/nonexistent", more=("--quiet",))
    assert (done.returncode, done.stderr) == (
        127,
        "perseus: error: cannot run /nonexistent: No such file or directory\n",
    )
    assert node.locked() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(node, number):
    node.start_agent()
    name = signal.Signals(number).name.removeprefix("SIG")
    ready = node.folder / "ready"
    # What was ignored when a shell started cannot be trapped, and tests may run under nohup or in the background.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        process = start_lease(
            node, "agent", "sh", "-c", f"trap 'exit 9' {name}; touch {ready}; while :; do sleep 0.02; done"
        )
    finally:
        signal.signal(number, before)
    wait_until(ready.exists)
    process.signal(number)
    assert process.child.wait(PATIENCE_S) == 9
    assert node.locked() == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_clock_that_the_gpu_lacks_is_refused_with_those_it_has(node, mode):
    start_node(node, mode)
    done = lease(node, mode, "true", clock=907)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"perseus: error: --clock: GPU 0 ({node.uuid(0)}) does not offer 907 MHz; it offers 210 to 1410 MHz in steps of 15\n"
    )
    assert node.history(0) == []
    assert list(node.state_dir.glob("*.lease")) == []


def test_without_an_agent_it_says_so(node):
    done = lease(node, "agent", "true")
    assert done.returncode == 3
    assert done.stderr == (
        f"perseus: error: {node.socket}: there is no such socket; is perseus-agent running? `perseus doctor` tells more\n"
    )


@pytest.mark.parametrize("mode", MODES)
def test_row_31_a_second_asker_learns_who_holds_the_gpu(node, mode):
    start_node(node, mode)
    process = start_lease(node, mode, "sleep", "60")
    done = lease(node, mode, "true")
    assert done.returncode == 3
    assert f"sleep (pid {process.pid}, uid {os.geteuid()})" in done.stderr
    kept = node.locked() == {0: 900}
    assert lease(node, mode, "true", gpu=1).returncode == 0
    process.terminate()
    node.wait_all_back()
    figures(31, f"two programs, one GPU, {mode}", tries=1, left_low=len(node.locked()), lost=(1 - kept, 1))


def test_row_31_agent_and_direct_mode_exclude_each_other(node):
    node.start_agent()
    done = lease(node, "direct", "true")
    assert done.returncode == 3
    assert f"this state folder is held by process {node.agent.pid}" in done.stderr
    node.agent.terminate()
    guardian = start_lease(node, "direct", "sleep", "60")
    refused = subprocess.run(
        node.agent_command(), env=node.env, capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 3
    assert "this state folder is held by process" in refused.stderr
    guardian.terminate()
    node.wait_all_back()
    figures(31, "agent and direct mode", tries=2, left_low=len(node.locked()))


# Faults in direct mode; the agent's own are in test_agent*.py.
def write_record(node: Node, boot_id: str) -> None:
    """A sealed record of GPU 0 with a baseline of 600 MHz, as a killed guardian leaves it."""
    line = json.dumps(
        {
            "format": "perseus-lease/1", "gpu": node.uuid(0), "owner": {"pid": 1, "uid": 0, "job": "", "client": ""},
            "baseline_mhz": 600, "boot_id": boot_id, "acquired_unix_s": 0,
        }
    )  # fmt: skip
    digest = hashlib.sha256(line.encode()).hexdigest()
    (node.state_dir / f"{node.uuid(0)}.lease").write_text(f"{line}\n{digest}\n")


@pytest.mark.parametrize("same_boot", [True, False])
def test_row_14_a_guardian_restores_what_is_of_this_boot_only(node, same_boot):
    assert lease(node, "direct", "true").returncode == 0
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    write_record(node, boot_id if same_boot else "00000000-0000-0000-0000-000000000000")
    before = len(node.history(0))
    assert lease(node, "direct", "true").returncode == 0
    clocks = [call["high_mhz"] for call in node.history(0)[before:] if call["call"] == "lock_clock"]
    assert clocks == ([600, 900] if same_boot else [900])
    assert list(node.state_dir.glob("*.lease*")) == []
    what = f"record of {'this' if same_boot else 'an earlier'} boot, guardian"
    figures(14, what, tries=1, left_low=len(node.locked()))


def test_row_29_a_bad_record_is_kept_aside_and_its_gpu_restored(node):
    process = start_lease(node, "direct", "sleep", "60")
    record = node.state_dir / f"{node.uuid(0)}.lease"
    whole = record.read_bytes()
    kill_everybody(node, process)
    assert node.locked() == {0: 900}
    record.write_bytes(whole[: len(whole) // 2])
    done = node.run_agent("--restore")
    assert f"{node.uuid(0)}: unreadable record kept as {record.name}.corrupt-1" in done.stdout
    assert [path.name for path in node.state_dir.glob("*.lease*")] == [f"{record.name}.corrupt-1"]
    figures(29, "record cut off, direct mode", tries=1, left_low=len(node.locked()))


def test_a_guardian_leaves_no_child_and_ends_with_its_program(node):
    process = start_lease(node, "direct", "sleep", "0.3")
    family = guards(node)
    assert len(family) == 2
    assert process.pid not in family.values()
    assert process.child.wait(PATIENCE_S) == 0
    wait_until(lambda: not guards(node))


def test_a_guardians_connection_goes_no_further(node):
    start_lease(node, "direct", "sleep", "60")
    modes = []
    for pid in guards(node):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                text = (entry.parent.parent / "fdinfo" / entry.name).read_text()
                modes.append(int(re.search(r"^flags:\s*(\d+)$", text, re.MULTILINE)[1], 8))
    assert len(modes) == 1  # the worker's; the watcher has let go of it
    assert modes[0] & os.O_CLOEXEC


def test_restore_leaves_alone_what_a_living_guardian_holds(node):
    start_lease(node, "direct", "sleep", "60", gpu=1)
    done = node.run_agent("--restore")
    assert re.fullmatch(rf"{node.uuid(1)}: left alone: .* is held by process \d+\n", done.stdout), done.stdout
    assert node.locked() == {1: 900}


def test_a_terminal_signal_does_not_reach_the_guardian(node):
    start_lease(node, "direct", "sleep", "60")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        for pid in guards(node):
            os.kill(pid, number)
    assert len(guards(node)) == 2
    assert node.locked() == {0: 900}
    for pid, parent in guards(node).items():
        if parent not in guards(node):
            os.kill(pid, signal.SIGTERM)  # this one restores and ends
            break
    wait_until(lambda: pid not in guards(node))


# Killing, at random moments of a lease's life, its beginning included.
def orders_of_direct_mode():
    """What is killed, in which order, after a random time."""
    return {
        "owner": lambda node, owner: owner.kill(),
        "owner-worker": lambda node, owner: (owner.kill(), kill_worker(node)),
        "worker-owner": lambda node, owner: (kill_worker(node), owner.kill()),
        "watcher-owner": lambda node, owner: (kill_watcher(node), owner.kill()),
        "worker-pause-owner": lambda node, owner: (kill_worker(node), time.sleep(random.uniform(0, 0.2)), owner.kill()),
        "guardian-pause-owner": lambda node, owner: (
            kill(*guards(node)), time.sleep(random.uniform(0, 0.2)), owner.kill(),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("order", orders_of_direct_mode())
def test_direct_mode_leaves_no_gpu_low_whatever_is_killed(node, order):
    random.seed(order)
    times = []
    for _ in range(KILLS):
        owner = start_lease(node, "direct", "sleep", "60", wait=False)
        time.sleep(random.uniform(0, 0.15))
        orders_of_direct_mode()[order](node, owner)
        killed = time.monotonic()
        if order == "guardian-pause-owner":  # the owner may have died before it had another one
            wait_until(lambda: not guards(node))
            node.run_agent("--restore")
        node.wait_all_back()
        times.append(time.monotonic() - killed)
        wait_until(lambda: not guards(node))
        assert list(node.state_dir.glob("*.lease")) == []
    figures("3 and 8", f"direct mode, {order} killed", tries=KILLS, left_low=len(node.locked()), times_s=times)


def test_direct_mode_with_everybody_killed_the_next_start_restores(node):
    random.seed(1)
    times = []
    lost = 0
    for turn in range(KILLS):
        owner = start_lease(node, "direct", "sleep", "60")
        time.sleep(random.uniform(0, 0.05))
        kill_everybody(node, owner)
        assert node.locked() == {0: 900}  # nobody is left who could know
        killed = time.monotonic()
        lost += 1 - node.records()
        if turn % 2 == 0:
            node.run_agent("--restore")
        else:
            assert lease(node, "direct", "true").returncode == 0
        node.wait_all_back()
        times.append(time.monotonic() - killed)
    figures(
        8, "direct mode, everybody killed", tries=KILLS, left_low=len(node.locked()), lost=(lost, KILLS), times_s=times
    )  # fmt: skip


def test_direct_mode_takes_the_clock_again_after_its_guardian_was_killed(node):
    random.seed(2)
    owner = start_lease(node, "direct", "sleep", "600")
    times = []
    for turn in range(KILLS):
        before = guards(node)
        kill_worker(node) if turn % 2 == 0 else kill(*before)
        killed = time.monotonic()
        wait_until(lambda: len(guards(node).keys() - before.keys()) == 2 and node.locked() == {0: 900})  # noqa: B023
        times.append(time.monotonic() - killed)
        wait_until(lambda: len(guards(node)) == 2)
    assert owner.child.poll() is None
    owner.kill()
    node.wait_all_back()
    figures(
        8, "direct mode, guardian killed, clock taken again", tries=KILLS, left_low=len(node.locked()), times_s=times
    )


@pytest.mark.parametrize("order", ["lease", "command", "both", "command-lease", "agent-lease", "lease-agent"])
def test_through_the_agent_no_gpu_stays_low_whatever_is_killed(node, order):
    random.seed(order)
    node.start_agent()
    times = []
    for _ in range(KILLS):
        pid_file = node.folder / "command.pid"
        pid_file.unlink(missing_ok=True)
        owner = start_lease(node, "agent", "sh", "-c", f"echo $$ > {pid_file}; exec sleep 60", wait=False)
        if "command" in order or order == "both":
            wait_until(lambda: pid_file.exists() and pid_file.read_text().strip() != "")  # noqa: B023
        time.sleep(random.uniform(0, 0.05))
        command = int(pid_file.read_text()) if pid_file.exists() and pid_file.read_text().strip() else 0
        victims = {"lease": [owner.pid], "command": [command], "agent": [node.agent.pid], "both": [owner.pid, command]}
        for victim in order.split("-"):
            kill(*(pid for pid in victims[victim] if pid))
        killed = time.monotonic()
        if "agent" in order:
            node.agent.child.wait(PATIENCE_S)
            node.start_agent()
        node.wait_all_back()
        times.append(time.monotonic() - killed)
        if order == "command":
            assert owner.child.wait(PATIENCE_S) == 137
        kill(owner.pid, *([command] if command else []))
        owner.child.wait(PATIENCE_S)
        node.wait_all_back()
        with node.client() as client:  # a clock that was never set is back before the lease is over
            wait_until(lambda: client.status()["gpus"][0]["state"] == "free")
    what = f"through the agent, {order} killed"
    figures("3 and 8", what, tries=KILLS, left_low=len(node.locked()), times_s=times)
    wait_until(lambda: not list(node.state_dir.glob("*.lease")))


def test_row_8_the_command_gets_its_clock_back_after_the_agent_was_killed(node):
    agent = node.start_agent()
    owner = start_lease(node, "agent", "sleep", "60")
    agent.kill()
    lost = 1 - node.records()
    node.start_agent()
    took = wait_until(lambda: len(node.audited("acquire", result="ok")) == 2 and node.locked() == {0: 900})
    wait_until(
        lambda: f"perseus lease: GPU 0 ({node.uuid(0)}) at 900 MHz again\n" in (node.folder / "lease.log").read_text()
    )
    owner.terminate()
    node.wait_all_back()
    what = "agent killed and started, lease taken again"
    figures(8, what, tries=1, left_low=len(node.locked()), lost=(lost, 1), times_s=[took])
