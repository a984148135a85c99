# SPDX-License-Identifier: Apache-2.0
"""The server under faults and hostile hands: RELIABILITY rows 1, 19, 22, 29, 33 as far as they are the server's."""

import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
import time
from pathlib import Path

from server_process import DEADLINE_S, PROFILE, Server, registration

ADMIN, READER, OF_GPT = "a" * 32, "r" * 32, "g" * 32


def token_file(folder: Path, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(f"admin {ADMIN}\nread {READER}\njob gpt {OF_GPT}\n")
    path.chmod(mode)
    return path


def raw(port: int, data: bytes, *, close: bool = True) -> bytes:
    """Sends bytes, answers all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        answer = b""
        # A server that has read enough may have closed, with or without an answer, before all was sent.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def test_sigkill_loses_nothing_that_was_acknowledged(perseus_binary: Path, tmp_path: Path) -> None:
    """Jobs, profiles and notices are written until SIGKILL at a random moment, again and again on one store."""
    moments = random.Random(20261124)
    jobs: dict[str, int] = {}
    profiles: set[str] = set()
    notices: set[tuple[str, str]] = set()
    tries = 8
    for attempt in range(tries):
        with Server(perseus_binary, tmp_path / "state") as server:
            assert not [line for line in server.log if line["event"] == "store.finding"]
            check_acknowledged(server, jobs, profiles, notices)
            killer = threading.Timer(moments.uniform(0.05, 0.8), server.kill)
            killer.start()
            try:
                for number in range(10_000):
                    job = f"job{attempt}-{number}"
                    if server.call("PUT", f"/api/v1/jobs/{job}", registration())[0] == 201:
                        jobs[job] = 1
                    if server.call("PUT", f"/api/v1/jobs/{job}/profile", PROFILE, kind="text/csv")[0] == 200:
                        profiles.add(job)
                    notice = {"id": "n", "pipeline": 0, "slowdown": 1.1, "cause": "test"}
                    if server.call("POST", f"/api/v1/jobs/{job}/stragglers", notice)[0] == 201:
                        notices.add((job, "n"))
            except (OSError, http.client.HTTPException):
                pass  # the connection ended with the process
            killer.join()
    with Server(perseus_binary, tmp_path / "state") as server:
        check_acknowledged(server, jobs, profiles, notices)
    assert len(jobs) > tries
    print(f"{tries} tries, {len(jobs)} jobs, {len(profiles)} profiles and {len(notices)} notices acknowledged, 0 lost")


def check_acknowledged(server: Server, jobs: dict, profiles: set, notices: set) -> None:
    found = {job["job"]: job for job in server.call("GET", "/api/v1/jobs")[1]["jobs"]}
    assert jobs.keys() <= found.keys()
    assert profiles <= {name for name, job in found.items() if job["profile_sha256"]}
    assert {name for name, _ in notices} <= {name for name, job in found.items() if job["stragglers"] == 1}


def test_a_server_that_is_told_to_stop_does_not_wait_for_a_frontier(
    perseus_binary: Path, perseus, tmp_path: Path
) -> None:
    """64 x 128 takes many seconds. It shows how far it is, is dropped at SIGTERM, and is begun anew by the next server."""
    large = registration() | {
        "parallel": {"pipeline": 64, "tensor": 1, "data": 1},
        "pipeline": {"schedule": "1f1b", "microbatches": 128},
    }
    profile = tmp_path / "large.csv"
    perseus("synth", "--model", "gpt3-175b", "--gpu-model", "a100-sxm-80g", "--pp", 64, "--tp", 1, "-o", profile)
    with Server(perseus_binary, tmp_path / "state") as server:
        assert server.call("PUT", "/api/v1/jobs/large", large)[0] == 201
        uploaded = server.call("PUT", "/api/v1/jobs/large/profile", profile.read_text(), kind="text/csv")
        assert uploaded[0] == 200, uploaded
        shares = [shown_share(server)]
        while len(shares) < 3:
            time.sleep(0.05)
            if (share := shown_share(server)) > shares[-1]:
                shares.append(share)
        begun = time.monotonic()
        assert server.stop() == 0
        print(f"stopped in {time.monotonic() - begun:.2f} s, {shares[-1]:.0f} % of the frontier were done")
        assert [line for line in server.log if line["event"] in ("planner.solved", "planner.failed")] == []
        server.wait_for("server.stopped")
    with Server(perseus_binary, tmp_path / "state") as server:
        assert server.call("GET", "/api/v1/jobs/large")[1]["state"] == "planning"
        assert "planning" in perseus("status", "--server", f"http://127.0.0.1:{server.port}").stdout


def shown_share(server: Server) -> float:
    job = server.call("GET", "/api/v1/jobs/large")[1]
    assert job["state"] == "planning", f"{job['state']}: the frontier was done before the server was told to stop"
    return job["planner"]["done_pct"]


def test_a_restarted_server_serves_the_same_plan(perseus_binary: Path, tmp_path: Path) -> None:
    with Server(perseus_binary, tmp_path / "state") as server:
        fence = server.plan_job()["schedule_sha256"]
        before = server.poll("gpt", "1.0.0", 0)[1]
        server.kill()
    with Server(perseus_binary, tmp_path / "state") as server:
        assert server.poll("gpt", "1.0.0", before["revision"])[0] == 404  # "register it again"
        server.hello("gpt", "1.0.0", fence, sequence=77)
        assert server.poll("gpt", "1.0.0", 0)[1] == before
        assert server.stop() == 0


def test_a_damaged_store_is_set_aside_and_the_server_starts(perseus_binary: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Server(perseus_binary, state) as server:
        server.plan_job()
        assert server.stop() == 0
    store = state / "server.db"
    data = bytearray(store.read_bytes())
    data[0:100] = b"\xa5" * 100
    store.write_bytes(data)
    with Server(perseus_binary, state) as server:
        finding = server.wait_for("store.finding")
        assert "it was renamed to" in finding["reason"]
        assert (state / "server.db.quarantined-1").read_bytes()[:100] == b"\xa5" * 100
        assert server.call("PUT", "/api/v1/jobs/new", registration())[0] == 201


def test_a_second_server_on_one_store_is_refused(perseus_binary: Path, perseus, tmp_path: Path) -> None:
    with Server(perseus_binary, tmp_path / "state"):
        done = perseus("serve", "--state", tmp_path / "state", "--listen", "127.0.0.1:0", expect=3)
        assert "database is locked" in done.stderr


def test_sigterm_answers_what_waits(perseus_binary: Path, tmp_path: Path) -> None:
    with Server(perseus_binary, tmp_path / "state") as server:
        server.plan_job()
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(server.poll("gpt", "0.0.0", 3)[0]))
        waiting.start()
        while "perseus_polls_waiting 1" not in server.call("GET", "/metrics")[1]:
            pass
        assert server.stop() == 0
        waiting.join(timeout=DEADLINE_S)
        assert answers == [204]
        server.wait_for("server.stopped")


def test_beyond_loopback_needs_tls_and_tokens(perseus, tmp_path: Path, certificate) -> None:
    cert, key = certificate
    tls = ["--tls-cert", cert, "--tls-key", key]
    for flags in ([], tls, ["--token-file", token_file(tmp_path)]):
        done = perseus("serve", "--state", tmp_path / "s", "--listen", "0.0.0.0:0", *flags, expect=2)
        assert (
            "0.0.0.0:0 can be reached from the network: that needs --tls-cert, --tls-key and --token-file"
            in done.stderr
        )
    done = perseus("serve", "--listen", "0.0.0.0:0", "--tls-cert", cert, expect=2)
    assert "--tls-cert and --tls-key go together" in done.stderr
    done = perseus("serve", "--listen", "127.0.0.1:0", "--token-file", token_file(tmp_path, 0o644), expect=3)
    assert "has mode 0644; tokens need 0600 or less" in done.stderr


def test_tokens_over_tls(perseus_binary: Path, perseus, tmp_path: Path, certificate) -> None:
    cert, key = certificate
    flags = ["--tls-cert", cert, "--tls-key", key, "--token-file", token_file(tmp_path)]
    context = ssl.create_default_context(cafile=str(cert))
    with Server(perseus_binary, tmp_path / "state", *flags, tls=context) as server:
        assert server.call("GET", "/healthz")[0] == 200
        assert server.call("GET", "/api/v1/jobs")[0] == 401
        assert server.call("GET", "/api/v1/jobs", token="x" * 32)[0] == 401
        server.wait_for("request.refused", reason="wrong token")
        assert server.call("PUT", "/api/v1/jobs/gpt", registration(), token=OF_GPT)[0] == 201
        assert server.call("PUT", "/api/v1/jobs/other", registration(), token=OF_GPT)[0] == 403
        assert server.call("PUT", "/api/v1/jobs/gpt", registration(2), token=READER)[0] == 403
        assert server.call("GET", "/api/v1/jobs/gpt", token=READER)[0] == 200
        assert server.call("GET", "/metrics", token=OF_GPT)[0] == 403
        url = f"https://127.0.0.1:{server.port}"
        reader = tmp_path / "reader"
        reader.write_text(READER + "\n")
        reader.chmod(0o600)
        shown = perseus("status", "--server", url, "--token-file", reader, "--ca-file", cert, "--json").json()
        assert [job["job"] for job in shown["jobs"]] == ["gpt"]
        assert (
            "certificate does not hold" in perseus("status", "--server", url, "--token-file", reader, expect=3).stderr
        )
        assert "401" in perseus("status", "--server", url, "--ca-file", cert, expect=3).stderr
        # Plain HTTP on the TLS port gets nothing.
        assert b"HTTP/1.1 200" not in raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # Not one token stands in the log.
        assert not any(token in json.dumps(server.log) for token in (ADMIN, READER, OF_GPT))


def test_a_page_in_a_browser_cannot_reach_a_server_without_tokens(perseus_binary: Path, tmp_path: Path) -> None:
    with Server(perseus_binary, tmp_path / "state") as server:
        status, body = server.call("GET", "/api/v1/jobs", headers={"Host": "evil.example"})
        assert (status, body["error"]["message"]) == (403, "Host is not this machine's loopback")
        assert server.call("PUT", "/api/v1/jobs/gpt", registration(), kind="text/plain")[0] == 400


def test_hostile_bytes_are_answered_or_dropped_and_the_server_goes_on(perseus_binary: Path, tmp_path: Path) -> None:
    chaos = random.Random(1)
    with Server(perseus_binary, tmp_path / "state") as server:
        host = b"Host: localhost\r\n"
        json_type = b"Content-Type: application/json\r\n"

        def status_of(data: bytes) -> bytes:
            return raw(server.port, data)[:12]

        assert (
            status_of(b"GET /api/v1/jobs HTTP/1.1\r\n" + host + b"X: " + b"x" * 20_000 + b"\r\n\r\n") == b"HTTP/1.1 431"
        )
        put = b"PUT /api/v1/jobs/gpt HTTP/1.1\r\n" + host + json_type
        assert status_of(put + b"Content-Length: 2147483648\r\n\r\n") == b"HTTP/1.1 413"
        assert status_of(put + b"Content-Length: 5000000\r\n\r\n") == b"HTTP/1.1 413"
        assert status_of(put + b"Content-Length: -1\r\n\r\n") == b"HTTP/1.1 400"
        assert status_of(put + b"Content-Length: 2\r\n\r\n\xff\xfe") == b"HTTP/1.1 400"
        deep = b"[" * 50_000
        assert status_of(put + b"Content-Length: %d\r\n\r\n" % len(deep) + deep) == b"HTTP/1.1 400"
        chunked = put + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n"
        assert status_of(chunked + (b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n") * 5) in (b"HTTP/1.1 413", b"")
        assert status_of(b"GET /a/../b HTTP/1.1\r\n" + host + b"\r\n") == b"HTTP/1.1 400"
        assert status_of(b"GET /%00 HTTP/1.1\r\n" + host + b"\r\n") == b"HTTP/1.1 400"
        assert status_of(b"GET http://evil/ HTTP/1.1\r\n" + host + b"\r\n") == b"HTTP/1.1 400"
        for _ in range(50):
            raw(server.port, chaos.randbytes(chaos.randrange(1, 2000)))
        # Cut-off requests: the client is gone, nothing happens.
        whole = put + b"Content-Length: 300\r\n\r\n" + json.dumps(registration()).encode()
        for size in range(0, len(whole), 37):
            raw(server.port, whole[:size])
        assert server.call("GET", "/api/v1/jobs") == (200, {"jobs": []})
        with open(f"/proc/{server.process.pid}/status") as status:
            resident_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert resident_kb < 200_000
        assert server.stop() == 0


def test_a_slow_loris_is_cut_off_and_others_are_served(perseus_binary: Path, tmp_path: Path) -> None:
    with Server(perseus_binary, tmp_path / "state") as server:
        lorises = [socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) for _ in range(50)]
        for loris in lorises:
            loris.sendall(b"GET /api/v1/jobs HTTP/1.1\r\nX")
        assert server.call("GET", "/api/v1/jobs")[0] == 200
        for loris in lorises:  # closed by the server 10 s after their first byte
            assert loris.recv(100) == b""
            loris.close()


def test_connections_beyond_the_limit_are_closed(perseus_binary: Path, tmp_path: Path) -> None:
    with Server(perseus_binary, tmp_path / "state", "--max-connections", 4) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) for _ in range(4)]
        for connection in held:  # answered, so accepted
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        extra = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S)
        assert extra.recv(1) == b""
        server.wait_for("connection.refused")
        for connection in (*held, extra):
            connection.close()


def test_zeus_routes_are_for_loopback_or_an_address_of_their_own(perseus_binary: Path, tmp_path: Path) -> None:
    flags = ["--token-file", token_file(tmp_path), "--zeus-plain", "127.0.0.1:0"]
    with Server(perseus_binary, tmp_path / "state", *flags) as server:
        server.token = ADMIN
        server.plan_job()
        server.token = None
        info = {"job_id": "", "pp_degree": 2, "dp_degree": 2, "tp_degree": 1, "world_size": 4, "job_metadata": "gpt"}
        status, job_id = server.call("POST", "/register_job", info, described=False)
        assert status == 200 and isinstance(job_id, str)
        zeus_port = int(server.wait_for("server.zeus_plain")["port"])
        get = b"GET %s HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"
        assert raw(zeus_port, get % b"/api/v1/jobs").startswith(b"HTTP/1.1 404")
        assert raw(zeus_port, get % b"/metrics").startswith(b"HTTP/1.1 404")
        body = json.dumps(info).encode()
        post = (
            b"POST /register_job HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        assert raw(zeus_port, post + body).startswith(b"HTTP/1.1 200")
