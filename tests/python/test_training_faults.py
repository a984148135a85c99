# SPDX-License-Identifier: Apache-2.0
"""Rows 3 to 6, 16, 19, 20, 23 to 26 and 30 of the fault table, with a training job: real ranks, agent and server on
simulated GPUs (training.py). Rows of what lies between ranks and server are in test_training_link.py.

Each row prints tries, iterations delayed beyond the fault itself, GPUs left low and acknowledged data lost. The second
number compares with a run that has the same fault and no Perseus; the last two must be 0. Longer campaigns:
PERSEUS_FAULT_TRIES=20 pytest tests/python/test_training_faults.py -s
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node import PATIENCE_S, EndedError, Node, RefusedError, wait_until
from server_process import Server
from training import (
    Tally,
    Training,
    delayed,
    notice,
    profile_csv,
    profile_kept,
    settle,
    training_node,
    usual,
    without_perseus,
)

TRIES = int(os.environ.get("PERSEUS_FAULT_TRIES", "2"))
HANG_S = 10.0  # RELIABILITY row 4: without a hook for so long inside a step
BEYOND_HANG_S = 12.0
HOOK_S = 0.05  # a hook takes a microsecond; a machine with one busy core too many takes a while. Assumed


@pytest.fixture
def node(perseus_binary: Path, tmp_path: Path):
    with training_node(perseus_binary, tmp_path) as made:
        yield made


@pytest.fixture
def server(perseus_binary: Path, tmp_path: Path):
    with Server(perseus_binary, tmp_path / "server", "--min-hold", 0, "--rank-ttl", 3) as made:
        yield made


@pytest.fixture
def job(node: Node, server: Server):
    with Training(node, server) as made:
        yield made


def beyond(with_perseus: list[float], plain: list[float]) -> int:
    """Delayed iterations of the one run above those of the other, each against its own usual time."""
    return max(0, delayed(with_perseus, usual(with_perseus)) - delayed(plain, usual(plain)))


# Ranks that go or stand still.


def test_row_3_a_killed_rank_leaves_no_clock_and_the_job_starts_again(job: Training, node: Node) -> None:
    """SIGKILL at a random moment of an iteration: its GPU is at the baseline, the server sees it gone, the next
    incarnation gets a plan from the stored profile."""
    tally = Tally(3, "a rank is killed")
    moments = random.Random(3)
    for attempt in range(TRIES):
        if attempt == 0:
            job.planned()
        else:
            job.start()
            job.wait_for_plan()
        job.wait_more(2)
        time.sleep(moments.uniform(0, 0.2))
        victim = moments.choice(job.places)
        job.ranks[victim].kill()
        took = wait_until(lambda victim=victim: victim[0] * 2 + victim[1] not in node.locked())
        job.wait_ended()
        tally.tries += 1
        tally.left_low += settle(node)
        tally.delayed += delayed(job.times(), usual(job.times()))
        tally.notes.append(f"back after {took:.2f} s")
        gone = f"{victim[0]}.{victim[1]}.0"
        wait_until(lambda gone=gone: not next(r for r in job.detail()["ranks"] if r["rank"] == gone)["live"])
        assert job.detail()["notices"] == []
        profile_kept(job, tally)
    job.start()
    job.wait_for_plan()
    job.stop()
    tally.left_low += settle(node)
    tally.report()


def test_row_4_a_stopped_and_a_hanging_rank_are_no_stragglers(job: Training, node: Node) -> None:
    """A rank hangs inside of a step; later one is stopped. Both go to the baseline, come back, and are not blamed."""
    tally = Tally(4, "a rank hangs, another is stopped", tries=2)
    hang = {(1, 0): [f"14=stall:{BEYOND_HANG_S}"]}
    plain = without_perseus(node, 17, hang)
    job.start(actions=hang)
    job.upload_profile()
    generation = job.wait_for_plan("fastest")
    job.wait_step(13)
    wait_until(lambda: node.locked() == {}, HANG_S + PATIENCE_S)
    assert job.steps_of()[-1]["step"] < 15, "the baseline came only after the hang"
    job.wait_step(16)
    assert set(job.generations().values()) == {generation}, "the next step takes the plan back"
    assert max(job.steps_of(place)[-1]["hook_timeouts"] for place in job.places) >= 1
    assert job.detail()["notices"] == []
    tally.delayed += beyond(job.times(last=16), plain)

    stopped = job.ranks[1, 1]
    job.wait_more(1)
    stopped.signal(signal.SIGSTOP)
    took = wait_until(lambda: 3 not in node.locked(), HANG_S + PATIENCE_S)
    tally.notes.append(f"stopped rank's GPU back after {took:.1f} s")
    assert job.detail()["notices"] == []
    stopped.signal(signal.SIGCONT)
    job.wait_more(3)
    wait_until(lambda: set(job.generations().values()) != {0})
    job.stop()
    tally.left_low += settle(node)
    profile_kept(job, tally)
    tally.report()


def test_row_5_a_long_legal_pause_keeps_the_lease(job: Training, node: Node) -> None:
    """A checkpoint of more than the lease's time to live between two steps: baseline meanwhile, the same lease after."""
    tally = Tally(5, "a long pause", tries=1)
    pause = {place: [f"12=pause:{BEYOND_HANG_S}"] for place in job.places}
    plain = without_perseus(node, 15, pause)
    job.start(actions=pause)
    job.upload_profile()
    generation = job.wait_for_plan("fastest")
    job.wait_step(11)
    wait_until(lambda: node.locked() == {})
    leases = len(node.audited("acquire", result="ok"))
    job.wait_step(14)
    assert job.generations() == dict.fromkeys(job.places, generation)
    assert len(node.audited("acquire", result="ok")) == leases
    assert node.audited("expire") == []
    tally.delayed = beyond(job.times(last=14), plain)
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


def test_row_6_python_that_holds_its_lock_is_not_held_up(job: Training, node: Node) -> None:
    """A Python rank holds the GIL inside of a step: the client's own thread goes to the baseline all the same."""
    tally = Tally(6, "Python holds its lock", tries=1)
    job.planned()
    library = node.perseus.parent.parent / "lib" / "libperseus_client.so"
    environment = {**job.environment(), "PERSEUS_RANK_GPU": "0"}
    job.stop()
    assert settle(node) == 0
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "gil_rank.py", library, str(BEYOND_HANG_S)],
        env=environment, capture_output=True, text=True, timeout=PATIENCE_S + BEYOND_HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hook_timeouts"] == 1, told
    tally.delayed = int(told["longest_hook_s"] > HOOK_S)
    assert tally.delayed == 0, told
    tally.notes.append(f"longest hook {told['longest_hook_s'] * 1e6:.0f} us")
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


# What the client is told wrong.


def test_row_16_unknown_missing_and_reordered_computations(job: Training, node: Node) -> None:
    tally = Tally(16, "unknown, missing and reordered computations", tries=3)
    odd = {place: ["14=extra", "17=missing", "20=reorder"] for place in job.places}
    plain = without_perseus(node, 24)
    job.start(actions=odd)
    job.upload_profile()
    generation = job.wait_for_plan("fastest")
    job.wait_step(23)
    steps = {s["step"]: s for s in job.steps_of()}
    assert steps[14]["unknown"] - steps[13]["unknown"] == 2
    assert steps[17]["missing"] - steps[16]["missing"] == 2  # its first forward and backward
    assert steps[22]["generation"] == generation
    for place in job.places:
        assert job.log_of(place).read_text().count("does not have") == 1, job.log_of(place).read_text()
    tally.delayed = beyond(job.times(last=23), plain)
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


HOSTILE_BODIES = [
    b'{"incarnation":1,"sequence":1e999}', b"[" * 20_000, b'{"x":"\xff\xfe"}', b"NaN", b'{"incarnation":-1}',
    b'{"incarnation":1,"incarnation":2}', b'"' + b"a" * 60_000, b"{}", b"",
]  # fmt: skip


def test_row_19_bad_input_changes_nothing(job: Training, node: Node, server: Server) -> None:
    """Hostile bodies, numbers, names and lengths at server and agent while the job trains."""
    tally = Tally(19, "nonsense at server and agent")
    generation = job.planned()
    before = server_memory_kib(server)
    targets = [("PUT", ""), ("POST", "/stragglers"), ("POST", "/ranks"), ("POST", "/ranks/0.0.0/measurements"),
               ("POST", "/ranks/0.0.0/windows"), ("POST", "/ranks/0.0.0/guard")]  # fmt: skip
    for method, rest in targets:
        for body in HOSTILE_BODIES:
            status, answer = server.call(method, job.path(rest), body)
            assert 400 <= status < 500, (method, rest, body[:40], status)
            assert answer["error"]["message"]
            tally.tries += 1
    for profile in ("stage,instruction,frequency,time,energy\n0,forward,99999999,nan,1e308\n", "import os\n", "\x00"):
        assert 400 <= server.call("PUT", job.path("/profile"), profile, kind="text/csv")[0] < 500
        tally.tries += 1
    for name in ("..%2f..%2fetc", "%2e%2e", "a%00b"):
        assert 400 <= server.call("GET", f"/api/v1/jobs/{name}", described=False)[0] < 500
        tally.tries += 1
    for body in HOSTILE_BODIES:
        stranger = node.client()
        with pytest.raises((RefusedError, EndedError, OSError)):
            stranger.send(body or b"\0")
            while True:
                stranger.reply()
        tally.tries += 1
    job.wait_more(3)
    assert job.generations() == dict.fromkeys(job.places, generation)
    grown = server_memory_kib(server) - before
    assert grown < 64 * 1024, f"{grown} KiB"
    tally.delayed = delayed(job.times(), usual(job.times()))
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


def server_memory_kib(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user")
def test_row_20_another_user_cannot_set_the_gpu_of_a_rank(job: Training, node: Node) -> None:
    tally = Tally(20, "another user", tries=4)
    generation = job.planned()
    node.folder.chmod(0o755)
    for parent in list(node.folder.parents)[:3]:
        parent.chmod(0o755)
    (node.folder / "run").chmod(0o755)
    node.socket.chmod(0o666)  # the group of the socket is not what this is about
    for gpu in range(4):
        command = [node.perseus, "lease", "--socket", node.socket, "--gpu", str(gpu), "--clock", "900", "--", "true"]
        done = subprocess.run(
            [str(word) for word in command], env=node.env, user=65534, group=65534, extra_groups=[],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert node.audited("acquire", uid=65534, index=gpu) != [], done.stderr
        assert all(line["result"] != "ok" for line in node.audited("acquire", uid=65534))
    job.wait_more(2)
    assert job.generations() == dict.fromkeys(job.places, generation)
    tally.delayed = delayed(job.times(), usual(job.times()))
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


# Stragglers.


def fastest(job: Training) -> float:
    """Usual time of the iterations before the first notice: those at full clocks and under the first plan."""
    first = {s["generation"] for s in job.steps_of()} - {0}
    steps = [s["step"] for s in job.steps_of() if s["generation"] <= min(first)]
    return usual(job.times(last=len(steps) - 1))


def test_row_23_flapping_notices_do_not_flap_plans(perseus_binary: Path, node: Node, tmp_path: Path) -> None:
    """A notice that comes and goes ten times: the hold lets one slow-down through; one that is never withdrawn ends by
    its time to live."""
    tally = Tally(23, "notices that come and go", tries=10)
    with (
        Server(perseus_binary, tmp_path / "held", "--min-hold", 30) as held,
        Training(node, held, "held") as job,
    ):
        job.planned()
        first = job.detail()["deployment"]["generation"]
        for _ in range(10):
            notice(job, 1.3)
            job.wait_more(1)
            job.call("DELETE", "/stragglers/n", expect=204)
            job.wait_more(1)
        changes = job.detail()["deployment"]["generation"] - first
        assert changes <= 2, f"{changes} changes"  # one slow-down, one speed-up
        tally.notes.append(f"{changes} changes of plan")
        notice(job, 1.01, "noise")
        job.wait_more(2)
        assert job.detail()["deployment"]["generation"] - first == changes, "less than the hysteresis is noise"
        notice(job, 1.3, "short", ttl_s=1)
        wait_until(lambda: [n["id"] for n in job.detail()["notices"]] == ["noise"])
        tally.delayed = delayed(job.times(), 1.3 * fastest(job))
        job.stop()
        tally.left_low = settle(node)
        profile_kept(job, tally)
    tally.report()


def test_row_24_a_lowered_clock_is_no_straggler(job: Training, node: Node) -> None:
    """The plan slows the light stage down, and a straggler's plan slows all: nobody is blamed for that."""
    tally = Tally(24, "clocks lowered by the plan", tries=1)
    generation = job.planned()
    job.wait_more(15)
    assert node.locked() != {}, "the plan lowers no clock: then this row shows nothing"
    assert job.detail()["notices"] == []
    notice(job, 1.2)
    slow = job.wait_for_plan("straggler", above=generation)
    job.wait_more(15)
    assert [n["id"] for n in job.detail()["notices"]] == ["n"]
    assert job.detail()["deployment"]["generation"] == slow
    tally.delayed = delayed(job.times(), 1.2 * fastest(job))
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


def test_row_25_a_recovery_speeds_up_at_the_next_step(job: Training, node: Node) -> None:
    tally = Tally(25, "a straggler recovers")
    generation = job.planned()
    for attempt in range(TRIES):
        notice(job, 1.25, f"n{attempt}")
        slow = job.wait_for_plan("straggler", above=generation)
        job.wait_more(2)
        step = job.steps_of()[-1]["step"]
        job.call("DELETE", f"/stragglers/n{attempt}", expect=204)
        generation = job.wait_for_plan("recovered", above=slow)
        faster = next(s["step"] for s in job.steps_of() if s["generation"] == generation)
        tally.tries += 1
        tally.notes.append(f"after {faster - step} steps")
        # The step that ran when it was withdrawn is finished, the next one may have begun.
        assert faster - step <= 3
    tally.delayed = delayed(job.times(), 1.25 * fastest(job))
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


HEAT = ("throttle=900", "power_cap=150")


def times_under_heat(node: Node) -> dict[str, float]:
    """Usual iteration time of the job without Perseus, by fault."""
    found = {}
    with Training(node, None, "plain") as plain:
        plain.start()
        for fault in HEAT:
            node.run("sim", "fault", "--gpu", 3, fault)
            plain.wait_more(2)
            begin = len(plain.times())
            plain.wait_more(8)
            found[fault] = usual(plain.times(begin))
            node.run("sim", "fault", "--gpu", 3, "--clear")
        plain.stop()
    return found


def test_row_26_heat_on_a_planned_gpu(job: Training, node: Node) -> None:
    """The hardware throttles one GPU of the plan, then a power cap does: seen as such, planned around, and back."""
    tally = Tally(26, "heat and a power cap", tries=len(HEAT))
    plain = times_under_heat(node)
    generation = job.planned()
    for fault in HEAT:
        node.run("sim", "fault", "--gpu", 3, fault)
        begin = len(job.times())
        slow = job.wait_for_plan("straggler", above=generation, patience_s=2 * PATIENCE_S)
        cause = next(n["cause"] for n in job.detail()["notices"])
        assert "power or heat held its clock down" in cause, cause
        job.wait_more(5)
        tally.delayed += delayed(job.times(begin), plain[fault])
        tally.notes.append(
            f"{fault}: {usual(job.times(begin)):.2f} s an iteration, {plain[fault]:.2f} s without Perseus"
        )
        node.run("sim", "fault", "--gpu", 3, "--clear")
        generation = job.wait_for_plan("recovered", above=slow, patience_s=2 * PATIENCE_S)
        assert job.detail()["notices"] == []
    assert all(job.steps_of(place)[-1]["guard_trips"] == 0 for place in job.places)
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()


def test_row_30_a_profile_that_makes_no_sense_keeps_the_old_plan(job: Training, node: Node, server: Server) -> None:
    tally = Tally(30, "a profile without sense")
    generation = job.planned()
    whole = profile_csv()
    missing_stage = "\n".join(line for line in whole.splitlines() if not line.startswith("1,")) + "\n"
    refused = [missing_stage, whole.replace("backward", "sideways"), whole.splitlines()[0] + "\n"]
    for profile in refused:
        status, answer = server.call("PUT", job.path("/profile"), profile, kind="text/csv")
        if status == 200:  # readable, but nothing can be planned from it: the planner says so
            wait_until(lambda: job.detail()["planner_error"] is not None)
            reason = job.detail()["planner_error"]
        else:
            reason = answer["error"]["message"]
        assert reason
        job.wait_more(2)
        assert job.generations() == dict.fromkeys(job.places, generation), reason
        tally.tries += 1
    job.call("PUT", "/profile", whole, kind="text/csv")
    wait_until(lambda: job.detail()["planner_error"] is None)
    tally.delayed = delayed(job.times(), usual(job.times()))
    job.stop()
    tally.left_low = settle(node)
    profile_kept(job, tally)
    tally.report()
