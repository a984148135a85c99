# SPDX-License-Identifier: Apache-2.0
"""The agent as a real process on the simulated driver: the rows of RELIABILITY.md's fault table that are its own.

Each test prints its row's figures (figures.py; docs/faults.md has the list). Times are printed, not judged; what is judged
is the end state.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import agent_campaign
import pytest
from figures import Others, figures
from node import EndedError, Node, Process, RefusedError, make_word, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def run_as_nobody(node: Node, code: str) -> subprocess.CompletedProcess:
    """Python code as user 65534 in the agent's pid namespace, with `node` on its path."""
    for folder in [node.folder, *node.folder.parents]:
        if folder == Path("/tmp"):
            break
        folder.chmod(folder.stat().st_mode | 0o055)
    # Neither the tree nor its Python environment need be open to others; the system's Python is.
    shutil.copy(Path(__file__).parent / "node.py", node.folder)
    code = f"import sys; sys.path.insert(0, {str(node.folder)!r}); from node import *\n{code}"
    return subprocess.run(
        ["/usr/bin/python3", "-c", code],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )


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


# Row 19: nonsense.
def test_row_19_nonsense_in_the_mailbox_changes_nothing(node):
    node.start_agent()
    random.seed(19)
    with node.client() as client, Others(node) as others:
        _, box = client.acquire("0")
        tries = 0
        for turn in range(300):
            mhz = random.choice([0, 1, 209, 211, 1411, 65535, random.randrange(65536)])
            kind = random.choice([0, 1, 2, 3, 65535, random.randrange(65536)])
            if kind == 1 and mhz in range(210, 1411, 15):
                continue
            box.post_word(make_word(turn + 1, mhz, kind))
            tries += 1
            time.sleep(0.0005)
        box.wait(box.post_baseline())
        assert [call for call in node.history(0) if call["call"] == "lock_clock"] == []
        assert 0 not in node.locked()
        assert box.wait(box.post(900)) == (900, "applied")
    node.wait_all_back()
    figures(19, "nonsense in the mailbox", tries=tries, left_low=len(node.locked()), others=others)


def test_row_19_nonsense_on_the_socket_ends_its_connection_only(node):
    node.start_agent()
    random.seed(20)
    with Others(node) as others:
        seeds = [
            b'{"type":"acquire","gpu":"../../etc","job":"","time_to_live_ms":10000}',
            b'{"type":"acquire","gpu":"0","job":"a\\nb","time_to_live_ms":10000}',
            b'{"type":"acquire","gpu":"0","job":"x","time_to_live_ms":1e308}',
            b'{"type":"renew","lease":99999999999999999999}',
            b"[" * 4000,
            b"\xff" * 100,
            b"{}",
            b"x" * 100_000,
        ]
        for turn in range(60):
            data = bytearray(seeds[turn % len(seeds)])
            for _ in range(turn // len(seeds)):
                data[random.randrange(len(data))] = random.randrange(256)
            with node.client() as bad, pytest.raises((RefusedError, EndedError, OSError)):
                bad.send(bytes(data))
                while True:
                    bad.reply()
    node.wait_all_back()
    assert node.history(0) == []
    figures(19, "nonsense on the socket", tries=60, left_low=len(node.locked()), others=others)


# Row 20: other users.
@needs_root
def test_row_20_another_user_is_denied_and_audited(node):
    node.start_agent()
    node.socket.chmod(0o666)  # as a member of the socket's group would find it
    tried = run_as_nobody(
        node,
        f"c = Client(Path({str(node.socket)!r}))\n"
        "for ask in (lambda: c.acquire('0', 'theft'), lambda: c.ask({'type': 'quiesce'})):\n"
        "    try: ask(); print('allowed')\n"
        "    except RefusedError as refused: print(refused.code)",
    )
    assert tried.stdout == "permission\npermission\n", tried.stderr
    (line,) = node.audited("acquire")
    assert (line["uid"], line["job"], line["result"]) == (65534, "theft", "permission")
    audited = len(node.audited("quiesce", uid=65534, result="permission")) + 1
    assert node.history(0) == []
    figures(20, "another user, denied and audited", tries=2, left_low=len(node.locked()), lost=(2 - audited, 2))


@needs_root
def test_row_20_a_grant_lets_another_user_in_down_to_its_floor(node):
    node.write_grants([{"uid": 65534, "gpus": [0], "min_mhz": 900}])
    node.start_agent()
    node.socket.chmod(0o666)
    tried = run_as_nobody(
        node,
        f"c = Client(Path({str(node.socket)!r}))\n"
        "lease, box = c.acquire('0')\n"
        "print(lease['clocks_mhz'][0], *box.wait(box.post(900)), *box.wait(box.post(885)))\n"
        "try: c.acquire('1')\n"
        "except RefusedError as refused: print(refused.code)",
    )
    assert tried.stdout == "900 900 applied 900 refused\npermission\n", tried.stdout + tried.stderr
    took = node.wait_all_back()
    figures(20, "another user with a grant", tries=1, left_low=len(node.locked()), times_s=[took])


def test_row_20_the_socket_is_for_owner_and_group_and_the_folder_for_all_to_see(node):
    node.start_agent()
    assert stat.S_IMODE(node.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(node.socket.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE(node.state_dir.stat().st_mode) == 0o700
    figures(20, "modes of socket and folders", tries=3, left_low=len(node.locked()))


# Row 22: slow and half-open connections.
def test_row_22_silent_connections_are_closed(node):
    node.write_config({"clients": {"first_message_s": 0.2, "idle_s": 1}})
    node.start_agent()
    silent = [node.client(hello=False) for _ in range(20)]
    with Others(node) as others:
        for client in silent:
            with pytest.raises(EndedError):
                client.receive()
            client.close()
    node.wait_all_back()
    figures(22, "silent connections", tries=len(silent), left_low=len(node.locked()), others=others)


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


NVML_LOCK = """
import ctypes, os
nvml = ctypes.CDLL(os.environ["PERSEUS_SIM_NVML"])
device = ctypes.c_void_p()
assert nvml.nvmlInit_v2() == 0
assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
assert nvml.nvmlDeviceSetGpuLockedClocks(device, {mhz}, {mhz}) == 0
"""


def test_row_27_another_writer_is_seen_and_left_alone(node):
    node.write_config(FAST)
    node.start_agent()
    node.start_work(0, 60)
    with node.client() as client:
        _, box = client.acquire("0")
        box.wait(box.post(1200))
        wait_until(lambda: client.status()["gpus"][0]["sm_clock_mhz"] == 1200)
        time.sleep(1)  # so that readings have seen it settled
        subprocess.run([sys.executable, "-c", NVML_LOCK.format(mhz=600)], env=node.env, check=True)
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
    lock = NVML_LOCK.format(mhz=600)
    lengths = [0, 1, len(whole) // 2, len(whole) - 2, len(whole) - 1]
    for length in lengths:
        subprocess.run([sys.executable, "-c", lock], env=node.env, check=True)
        record.write_bytes(whole[:length])
        record.chmod(0o600)
        node.run_agent("--restore")
        assert node.locked() == {}, length
    kept = len(list(node.state_dir.glob("*.corrupt-*")))
    figures(
        29, "record cut off, put aside", tries=len(lengths), left_low=len(node.locked()),
        lost=(len(lengths) - kept, len(lengths)),
    )  # fmt: skip


# Rows 31 and 32: owners.
def test_row_31_a_second_job_learns_who_holds_the_gpu(node):
    node.start_agent()
    owner = node.start_owner("0", [600])
    with node.client() as client:
        with pytest.raises(RefusedError) as refused:
            client.acquire("0", "second")
        assert refused.value.code == "busy"
        assert refused.value.message == f"GPU 0 is leased by owner (pid {owner.pid}, uid {os.getuid()})"
        kept = node.locked() == {0: 600}
        owner.kill()
        wait_until(lambda: client.status()["gpus"][0]["state"] == "free")
        client.acquire("0", "second")
    figures(31, "two jobs, one GPU", tries=1, left_low=len(node.locked()), lost=(1 - kept, 1))


@needs_root
def test_row_32_root_of_a_container_is_nobody_and_its_end_is_noticed(node):
    """A pid namespace of its own, as a container has it; the process has pid 1 there."""
    node.start_agent()
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from node import *\n"
        f"c = Client(Path({str(node.socket)!r}))\n"
        "try: c.acquire('0'); print('allowed')\n"
        "except RefusedError as refused: print(os.getpid(), refused.code)"
    )
    inside = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code]
    done = subprocess.run(inside, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("this machine gives no pid namespaces")
    assert done.stdout == "1 permission\n", done.stderr
    figures(32, "root of a container, denied", tries=1, left_low=len(node.locked()))


def test_row_32_a_connection_serves_the_process_that_made_it_only(node):
    """Its number is all that a socket remembers of a process: the sender of each packet must still be the same."""
    node.start_agent()
    with node.client() as client:
        acquire = b'{"type":"acquire","gpu":"0","job":"heir","time_to_live_ms":10000}'
        child = os.fork()
        if child == 0:
            client.socket.send(acquire)
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(RefusedError) as refused:
            client.reply()
        assert refused.value.code == "permission"
        assert refused.value.message.endswith(f"made by process {os.getpid()}; process {child} cannot use it")
        with pytest.raises(EndedError):
            client.reply()
    assert node.history(0) == []
    figures(32, "another process on the connection, denied", tries=1, left_low=len(node.locked()))


def test_descriptors_of_clients_are_never_taken(node):
    """Closing one may wait for its owner (a file of a FUSE file system): the agent would hang beyond SIGKILL."""
    node.start_agent()
    with node.client(hello=False) as client, open("/dev/null", "rb") as null:
        with pytest.raises(RefusedError) as refused:
            client.ask({"type": "hello", "protocol": 1, "client": "evil"}, null.fileno())
        assert refused.value.code == "invalid_input"
        assert "none is taken" in refused.value.message


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
