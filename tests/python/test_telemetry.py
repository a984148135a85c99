# SPDX-License-Identifier: Apache-2.0
"""`perseus telemetry` as a real process beside a real agent on the simulated driver."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from node import Node, wait_until

PATIENCE_S = 60
CAN_BECOME_NOBODY = os.geteuid() == 0


class Exporter:
    """One process; its log is kept as parsed lines."""

    def __init__(self, binary: Path, folder: Path, *flags: object, listen: str = "127.0.0.1:0", **options: object):
        self.log: list[dict] = []
        self._changed = threading.Condition()
        command = [str(binary), "telemetry", "--listen", listen, "--dir", str(folder), *map(str, flags)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.log), PATIENCE_S), "it says nothing"
        assert self.log[0]["event"] == "telemetry.listening", self.log
        self.port = int(self.log[0]["address"].rsplit(":", 1)[1])

    def _read_log(self) -> None:
        for line in self.process.stderr:
            with self._changed:
                self.log.append(json.loads(line))
                self._changed.notify_all()

    def get(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str, str]:
        """(status, content type, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
        finally:
            connection.close()

    def refusal(self, path: str) -> str:
        """The reason in a 503."""
        status, kind, body = self.get(path)
        assert (status, kind) == (503, "application/json"), body
        return json.loads(body)["error"]["message"]

    def wait_for(self, status: int, path: str, **headers: str) -> None:
        """Asks again and again, below the rate that it allows, until the status is that."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                if self.get(path, **headers)[0] == status:
                    return
            assert time.monotonic() < deadline, f"{path} is never answered with {status}"
            time.sleep(0.05)

    def raw(self, data: bytes) -> bytes:
        """Sends bytes; what comes back until the exporter closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    answer += chunk
            return answer

    def stop(self) -> int:
        """Its exit code; the log is complete then."""
        self.process.send_signal(signal.SIGTERM)
        self._reader.join(PATIENCE_S)
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> "Exporter":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE_S)
        self.process.stderr.close()


def exporter(node: Node, *flags: object, **options: object) -> Exporter:
    return Exporter(node.perseus, node.socket.parent, *flags, **options)


def samples(text: str) -> dict[str, float]:
    """A page in Prometheus' text format, read strictly: every sample's family is typed once, before it."""
    types: dict[str, str] = {}
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types
            types[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_]+)(\{(?:[a-z_]+="[^"\\\n]*",?)*\})? (\S+)', line)
            assert match, line
            assert match[1] in types, line
            found[f"{match[1]}{match[2] or ''}"] = float(match[3])
    return found


def test_an_unprivileged_exporter_shows_what_the_agent_publishes(node):
    node.start_agent()
    node.start_owner("0", [900])
    intended = f'perseus_gpu_intended_clock_megahertz{{gpu="0",uuid="{node.uuid(0)}"}}'
    wait_until(lambda: node.metric(intended) == 900)
    options = {}
    if CAN_BECOME_NOBODY:
        for folder in [node.folder, *node.folder.parents]:
            if folder == Path("/tmp"):
                break
            folder.chmod(folder.stat().st_mode | 0o055)
        options = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        made = exporter(node, **options)
    except PermissionError:
        pytest.skip("nobody may not run this build's binary")
    with made as shown:
        status, kind, text = shown.get("/metrics")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        found = samples(text)
        assert found[intended] == 900
        assert 0 <= found['perseus_telemetry_file_age_seconds{file="metrics.prom"}'] < 15
        assert 0 <= found['perseus_telemetry_file_age_seconds{file="intended.json"}'] < 15
        published = json.loads((node.socket.parent / "intended.json").read_text())
        wait_until(lambda: json.loads((node.socket.parent / "intended.json").read_text()) != published)
        status, kind, text = shown.get("/intended")
        assert (status, kind) == (200, "application/json")
        assert [gpu["intended_mhz"] for gpu in json.loads(text)["gpus"]] == [900, None]
        assert shown.stop() == 0
        assert shown.log[-1]["event"] == "telemetry.stopped"


def test_without_an_agent_and_after_its_death_it_says_so(node):
    (node.socket.parent).mkdir()
    with exporter(node, "--max-age", "1") as shown:
        assert shown.refusal("/metrics") == (
            f"{node.socket.parent}/metrics.prom: No such file or directory: no agent publishes here; does perseus-agent "
            "run? `perseus doctor` tells more"
        )
        assert "intended.json" in shown.refusal("/intended")
        assert shown.get("/healthz")[0] == 200  # the exporter itself is well
        agent = node.start_agent()
        shown.wait_for(200, "/metrics")
        agent.kill()
        shown.wait_for(503, "/metrics")
        assert re.search(
            r"was written \d+\.\d s ago; more than 1 s is stale: the agent has stopped or hangs",
            shown.refusal("/metrics"),
        )
        node.start_agent()
        shown.wait_for(200, "/metrics")


def test_an_agent_that_hangs_is_stale(node):
    agent = node.start_agent()
    with exporter(node, "--max-age", "1") as shown:
        shown.wait_for(200, "/intended")
        agent.signal(signal.SIGSTOP)
        shown.wait_for(503, "/intended")
        agent.signal(signal.SIGCONT)
        shown.wait_for(200, "/intended")


def test_a_page_in_a_browser_does_not_get_over_loopback_by_a_name_of_its_own(node):
    node.start_agent()
    with exporter(node) as shown:
        shown.wait_for(200, "/metrics")
        for host in ("evil.example", "127.0.0.1.evil.example", ""):
            status, _, body = shown.get("/metrics", Host=host)
            assert (status, json.loads(body)["error"]["code"]) == (403, "permission"), host
        for host in ("localhost", f"127.0.0.1:{shown.port}", "[::1]:9"):
            assert shown.get("/metrics", Host=host)[0] == 200, host


def test_beyond_loopback_only_with_the_flag_that_says_so(node):
    refused = node.run("telemetry", "--listen", "0.0.0.0:0", check=False)
    assert refused.returncode == 2
    assert refused.stderr == (
        "perseus: error: --listen: 0.0.0.0:0 can be reached from the network: that needs --beyond-loopback, which says "
        "that whoever connects may read this node's GPUs (UUIDs, clocks, power, energy, temperature, states), without "
        "encryption; nothing can be changed\n"
    )
    node.start_agent()
    with exporter(node, "--beyond-loopback", listen="0.0.0.0:0") as shown:
        shown.wait_for(200, "/metrics", Host="node17:9787")
        assert [line["event"] for line in shown.log[:2]] == ["telemetry.listening", "telemetry.beyond_loopback"]


@pytest.mark.parametrize(
    "address", ["localhost:9787", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", ":9787", "example.org:1"]
)
def test_addresses_that_are_none_are_usage_errors(node, address):
    refused = node.run("telemetry", "--listen", address, check=False)
    assert refused.returncode == 2
    assert "is not ADDRESS:PORT" in refused.stderr


def test_a_port_in_use_is_said_so(node):
    with exporter(node) as first:
        refused = node.run("telemetry", "--listen", f"127.0.0.1:{first.port}", check=False)
    assert refused.returncode == 3
    assert refused.stderr.startswith(f"perseus: error: --listen: 127.0.0.1:{first.port}") or (
        f"127.0.0.1:{first.port}" in refused.stderr
    )


def test_nothing_else_is_served_and_nothing_is_taken(node):
    node.start_agent()
    (node.socket.parent / "secret").write_text("key\n")
    with exporter(node) as shown:
        shown.wait_for(200, "/metrics")
        for path in (
            "/",
            "/secret",
            "/metrics/../secret",
            "/..%2fstate",
            "/metrics.prom",
            "/api/v1/jobs",
            "/register_job",
        ):
            assert shown.get(path)[0] in (400, 404), path
        for method in ("POST", "PUT", "DELETE"):
            assert shown.get("/metrics", method)[0] == 405
        assert shown.get("/metrics", "GET", b"body")[0] == 413


def test_limits_of_connections_headers_and_time(node):
    node.start_agent()
    with exporter(node) as shown:
        shown.wait_for(200, "/metrics")
        long = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000 + b"\r\n\r\n"
        assert shown.raw(long).startswith(b"HTTP/1.1 431 ")
        assert shown.raw(b"\x00\xff nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        # Half a request, and nothing more: cut off after 5 s, and nobody else waits meanwhile.
        with socket.create_connection(("127.0.0.1", shown.port), timeout=PATIENCE_S) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHo")
            assert shown.get("/metrics")[0] == 200
            assert slow.recv(1) == b""
        silent = [socket.create_connection(("127.0.0.1", shown.port), timeout=PATIENCE_S) for _ in range(64)]
        with socket.create_connection(("127.0.0.1", shown.port), timeout=PATIENCE_S) as one_more:
            assert one_more.recv(1) == b""  # closed: 64 are there
        for connection in silent:
            connection.close()
        shown.wait_for(200, "/metrics")
        answers = [shown.get("/intended")[0] for _ in range(300)]
        assert set(answers) <= {200, 429}
        assert answers[0] == 200
