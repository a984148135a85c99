# SPDX-License-Identifier: Apache-2.0
"""The agent as a real process on the simulated driver: who speaks to it, what nonsense, and with which right.

Each test prints its row's figures (figures.py; docs/faults.md has the list). Times are printed, not judged; what is judged
is the end state.
"""

import os
import random
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from figures import Others, figures
from node import EndedError, Node, RefusedError, make_word, wait_until

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
