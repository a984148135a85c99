# SPDX-License-Identifier: Apache-2.0
"""The agent as a real process on the simulated driver: owners and agents that die, stop or only look dead, and the journal.

Each test prints its row's figures (figures.py; docs/faults.md has the list). Times are printed, not judged; what is judged
is the end state.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import agent_campaign
import pytest
from figures import Others, figures
from node import Process, RefusedError, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


# Rows 3 and 4: owners that die or stop.
def test_row_3_a_killed_owner_leaves_no_gpu_low(node):
    node.start_agent()
    random.seed(3)
    times = []
    with Others(node) as others:
        for turn in range(12):
            owner = node.start_owner("0", [600 + 15 * turn, 1200])
            time.sleep(random.uniform(0, 0.03))
            owner.kill()
            times.append(node.wait_back(0))
    figures(3, "owner killed", tries=12, left_low=len(node.locked()), others=others, times_s=times)


def test_row_3_the_process_counts_even_if_a_child_keeps_its_socket_open(node):
    node.start_agent()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys, os; sys.path.insert(0, {str(Path(__file__).parent)!r}); from node import *\n"
            f"c = Client(Path({str(node.socket)!r})); _, box = c.acquire('0'); box.wait(box.post(600))\n"
            "pid = os.fork()\n"
            "if pid == 0: os.close(1); time.sleep(60); os._exit(0)\n"
            "print(pid, flush=True); os._exit(0)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(holder.communicate(timeout=30)[0])
    took = node.wait_all_back()
    os.kill(child, signal.SIGKILL)  # it still held the connection
    figures(3, "owner killed, its child holds the socket", tries=1, left_low=len(node.locked()), times_s=[took])
    assert node.audited("end", detail="its process has ended")


def test_row_4_a_stopped_owner_loses_its_lease(node):
    node.start_agent()
    with Others(node) as others:
        owner = node.start_owner("0", [600], ttl_ms=1000)
        owner.signal(signal.SIGSTOP)
        took = node.wait_back(0)
    assert node.audited("expire", detail="expired: not renewed within its time to live")
    figures(4, "owner stopped", tries=1, left_low=len(node.locked()), others=others, times_s=[took])


# Rows 5 to 7: owners that only look dead.
def test_row_5_a_long_pause_costs_no_lease(node):
    """`perseus lease` asks for nothing while its command runs: a thread of its own renews, each third of 10 s."""
    node.start_agent()
    with Others(node) as others:
        command = [
            str(node.perseus),
            "lease",
            "--socket",
            str(node.socket),
            "--gpu",
            "0",
            "--clock",
            "900",
            "--",
            "sleep",
            "99",
        ]
        pause = node.keep(Process(command, node.env, node.folder / "lease.log", stdout=subprocess.DEVNULL))
        wait_until(lambda: node.locked().get(0) == 900)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 11, patience_s=60)
        kept = node.locked().get(0) == 900 and not node.audited("expire") and not node.audited("end")
        pause.terminate()
        took = node.wait_back(0)
    figures(
        5, "no request for longer than the lease lasts", tries=1, left_low=len(node.locked()),
        lost=(1 - kept, 1), others=others, times_s=[took],
    )  # fmt: skip


def test_row_6_a_process_that_python_blocks_is_at_its_baseline_meanwhile_and_goes_on(node):
    """Its renewals are Python's, and Python holds its global lock for two times to live."""
    node.start_agent()
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from node import *; import ctypes\n"
        f"client = Client(Path({str(node.socket)!r}))\n"
        "lease, box = client.acquire('0', ttl_ms=1000); box.wait(box.post(600)); print('held', flush=True)\n"
        "ctypes.PyDLL(None).usleep(2_000_000)\n"  # a PyDLL call keeps the lock
        "print(client.wait_ended()['reason'], '-', box.applied()[2], flush=True)\n"
        "lease, box = client.acquire('0', ttl_ms=1000); print(*box.wait(box.post(600)), flush=True)\n"
    )
    with Others(node) as others:
        blocked = node.keep(
            Process([sys.executable, "-c", code], node.env, node.folder / "blocked.log", stdout=subprocess.PIPE)
        )
        assert blocked.child.stdout.readline() == b"held\n"
        took = node.wait_back(0)
        said = blocked.child.stdout.read().decode().splitlines()
        assert said == ["expired: not renewed within its time to live - ended", "600 applied"]
        node.wait_back(0)
    figures(6, "Python blocked", tries=1, left_low=len(node.locked()), others=others, times_s=[took])


SKEWED_CLOCK = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec* now) {
  const long result = syscall(SYS_clock_gettime, clock, now);
  char text[32] = "";
  const int file = clock == CLOCK_REALTIME ? open(getenv("PERSEUS_TEST_SKEW"), O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    close(file);
  }
  return (int)result;
}
"""


def test_row_7_a_clock_that_is_set_an_hour_ahead_or_back_ends_no_lease(node):
    """The part of row 7 that is the agent's; what lies between rank and server is tested with their link."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no compiler to make a clock that can be set")
    (node.folder / "skew.c").write_text(SKEWED_CLOCK)
    shim, skew = node.folder / "skew.so", node.folder / "skew"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, node.folder / "skew.c"], check=True)
    skew.write_text("0")
    node.start_agent(env={"LD_PRELOAD": str(shim), "PERSEUS_TEST_SKEW": str(skew)})

    def published_age_s() -> float:
        text = json.loads((node.socket.parent / "intended.json").read_text())["time"]
        return time.time() - datetime.fromisoformat(text).timestamp()

    with Others(node) as others:
        node.start_owner("0", [600], ttl_ms=1000)
        steps = [3600, -3600, 0]
        for seconds in steps:
            skew.write_text(str(seconds))
            wait_until(lambda: abs(published_age_s() + seconds) < 60)  # noqa: B023
            for _ in range(2):  # and through two more states
                before = published_age_s()
                wait_until(lambda: published_age_s() != before)  # noqa: B023
        kept = node.locked().get(0) == 600 and not node.audited("expire")
    assert node.agent.terminate() == 0
    figures(
        7, "clock set an hour ahead and back", tries=len(steps), left_low=len(node.locked()),
        lost=(1 - kept, 1), others=others,
    )  # fmt: skip


# Rows 8 and 9: agents that die or are stopped.
@pytest.mark.parametrize("by_hook", [True, False], ids=["stop-hook", "next-start"])
def test_row_8_what_a_killed_agent_leaves_is_restored(node, by_hook):
    random.seed(8)
    times = []
    lost = 0
    for turn in range(8):
        agent = node.start_agent()
        owner = node.start_owner("0", [600, 615 + 15 * turn], interval_s=0.001)
        time.sleep(random.uniform(0, 0.02))
        agent.kill()
        killed = time.monotonic()
        lost += 1 - node.records()  # the lease was acknowledged
        if by_hook:
            node.run_agent("--restore")
        else:
            node.start_agent()
        node.wait_all_back()
        times.append(time.monotonic() - killed)
        owner.kill()
        if not by_hook:
            assert node.agent.terminate() == 0
    what = f"agent killed, {'stop hook' if by_hook else 'next start'}"
    figures(8, what, tries=8, left_low=len(node.locked()), lost=(lost, 8), times_s=times)
    assert node.records() == 0


def test_row_8_restore_refuses_while_an_agent_lives(node):
    node.start_agent()
    node.start_owner("0", [600])
    refused = node.run_agent("--restore", check=False)
    assert refused.returncode == 3
    assert "perseus-agent: error:" in refused.stderr
    kept = node.locked() == {0: 600}
    assert node.agent.terminate() == 0
    figures(8, "--restore beside an agent, refused", tries=1, left_low=len(node.locked()), lost=(1 - kept, 1))


def test_row_8_restore_all_ignores_the_journal(node):
    agent = node.start_agent()
    node.start_owner("0", [600])
    agent.kill()
    for record in node.state_dir.glob("*.lease"):
        record.unlink()
    assert node.run_agent("--restore").stdout == "nothing to restore\n"
    assert node.locked() == {0: 600}
    node.run_agent("--restore", "--all")
    figures(8, "journal gone, --restore --all", tries=1, left_low=len(node.locked()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_row_9_a_stopped_agent_restores_first(node, number):
    agent = node.start_agent()
    node.start_owner("0", [600])
    node.start_owner("1", [900])
    assert node.locked() == {0: 600, 1: 900}
    start = time.monotonic()
    agent.signal(number)
    assert agent.child.wait(30) == 0
    took = time.monotonic() - start
    assert not node.socket.exists()
    assert node.records() == 0
    figures(9, f"agent stopped by {number.name}", tries=1, left_low=len(node.locked()), times_s=[took])


def test_rows_3_and_8_dozens_of_kills_leave_no_gpu_low(perseus_binary, tmp_path):
    """The short form of tests/python/agent_campaign.py."""
    result = agent_campaign.run(perseus_binary, tmp_path, kills=36, seed=36)
    assert (result["gpus_left_low"], result["locked_at_end"], result["records_left"]) == (0, 0, 0)
    assert result["acknowledged_lost"] == 0
    slowest = [result[victim]["max_s"] for victim in agent_campaign.VICTIMS]
    figures(
        "3 and 8", "owners, agent, both killed", tries=result["kills"], left_low=result["gpus_left_low"],
        lost=(result["acknowledged_lost"], result["acknowledged"]), times_s=slowest,
    )  # fmt: skip


# Row 14: the journal of an earlier boot.
def test_row_14_a_record_of_another_boot_is_dropped(node):
    agent = node.start_agent()
    node.start_owner("0", [600])
    agent.kill()
    (record,) = node.state_dir.glob("*.lease")
    line = json.loads(record.read_text().splitlines()[0])
    line["boot_id"] = "00000000-0000-4000-8000-000000000000"
    text = json.dumps(line, separators=(",", ":"))
    record.write_text(f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n")
    calls = len(node.history(0))
    node.start_agent()
    assert node.audited("restore", detail="journalled in an earlier boot: the driver has forgotten the clock"), (
        node.audit()
    )
    assert not record.exists()
    assert len(node.history(0)) == calls  # the driver was left alone
    assert node.agent.terminate() == 0
    # A real boot would have forgotten the clock; here the simulated driver has not.
    assert node.locked() == {0: 600}
    node.run_agent("--restore", "--all")
    figures(14, "journal of an earlier boot", tries=1, left_low=len(node.locked()))


# Row 29: disks.
@needs_root
def test_row_29_a_full_disk_refuses_new_leases_and_changes_nothing(node):
    node.state_dir.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "perseus-test", node.state_dir], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs a capability that this machine does not give")
    try:
        node.start_agent()
        with Others(node) as others:  # whose lease was written before
            (node.state_dir / "filler").write_bytes(b"x" * 4096)
            with pytest.raises(OSError, match="space"):
                (node.state_dir / "filler2").write_bytes(b"x" * 16384)
            with node.client() as client, pytest.raises(RefusedError) as refused:
                client.acquire("0")
            assert refused.value.code == "io"
            assert "No space left on device" in refused.value.message
            lost = 1 - node.records()
        assert node.history(0) == []
        assert node.agent.terminate() == 0
        figures(29, "disk full", tries=1, left_low=len(node.locked()), lost=(lost, 1), others=others)
    finally:
        node.agent.kill()
        subprocess.run(["umount", node.state_dir], check=True)


def test_row_29_a_journal_cut_off_at_every_byte_restores_its_gpu_all_the_same(node):
    agent = node.start_agent()
    owner = node.start_owner("0", [600])
    agent.kill()
    owner.kill()
    (record,) = node.state_dir.glob("*.lease")
    whole = record.read_bytes()
    node.run_agent("--restore")
    lengths = [0, 1, len(whole) // 2, len(whole) - 2, len(whole) - 1]
    for length in lengths:
        node.lock_from_outside(0, 600)
        record.write_bytes(whole[:length])
        record.chmod(0o600)
        node.run_agent("--restore")
        assert node.locked() == {}, length
    kept = len(list(node.state_dir.glob("*.corrupt-*")))
    figures(
        29, "record cut off, put aside", tries=len(lengths), left_low=len(node.locked()),
        lost=(len(lengths) - kept, len(lengths)),
    )  # fmt: skip
