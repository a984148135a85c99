# SPDX-License-Identifier: Apache-2.0
"""Load on a real `perseus serve` over real sockets: `bench/server_load.py [--binary B] [notices|idle|storm|all]`.

    notices   1,024 ranks of 16 jobs wait in long polls; a straggler notice for every job at once, and its end
    idle      10,000 connected ranks that wait: the server's resident memory
    storm     the server is killed under 10,000 waiting ranks and started again: until the last has its poll back

One process plays all ranks with one epoll loop and shares the machine with the server, so the times include its own work.
Prints one JSON object; bench/results/server.md keeps what was measured.
"""

import argparse
import json
import os
import resource
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = 8
MICROBATCHES = 128


class Rank:
    """One connection that registers once and then polls; times are of time.monotonic()."""

    def __init__(self, job: str, place: str, fence: str, sequence: int) -> None:
        self.job, self.place, self.fence, self.sequence = job, place, fence, sequence
        self.socket: socket.socket | None = None
        self.buffer = b""
        self.expected = 0
        self.done_at = 0.0
        self.status = 0
        self.body = b""

    def connect(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.buffer, self.expected = b"", 0

    def hello(self) -> bytes:
        body = json.dumps(
            {"incarnation": 1, "sequence": self.sequence, "rank": self.place, "schedule_sha256": self.fence, "step": 1}
        ).encode()
        return (
            f"POST /api/v1/jobs/{self.job}/ranks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def poll(self, have: int, step: int) -> bytes:
        path = f"/api/v1/jobs/{self.job}/ranks/{self.place}/plan?incarnation=1&have={have}&step={step}&wait_s=55"
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def receive(self) -> bool:
        """Takes what is there; true once the answer is whole."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise ConnectionError(f"{self.job} {self.place}: closed by the server")
        self.buffer += chunk
        if not self.expected:
            head = self.buffer.find(b"\r\n\r\n")
            if head < 0:
                return False
            self.status = int(self.buffer[9:12])
            at = self.buffer.find(b"Content-Length: ", 0, head)
            length = 0 if at < 0 else int(self.buffer[at + 16 : self.buffer.find(b"\r", at)])
            self.expected = head + 4 + length
        if len(self.buffer) < self.expected:
            return False
        self.done_at = time.monotonic()
        self.body = self.buffer[self.buffer.find(b"\r\n\r\n") + 4 : self.expected]
        self.buffer, self.expected = b"", 0
        return True


def ask_all(ranks: list[Rank], requests: list[bytes], timed=()) -> None:
    """Sends one request each and waits for all answers; meanwhile does `timed`: (seconds from now, what) in order."""
    epoll = select.epoll()
    by_fd = {}
    for rank, request in zip(ranks, requests, strict=True):
        rank.socket.sendall(request)
        by_fd[rank.socket.fileno()] = rank
        epoll.register(rank.socket.fileno(), select.EPOLLIN)
    begun = time.monotonic()
    timed = list(timed)
    while by_fd or timed:
        left = begun + timed[0][0] - time.monotonic() if timed else 60
        if timed and left <= 0:
            timed.pop(0)[1]()
            continue
        for fd, _ in epoll.poll(left, 4096):
            if by_fd[fd].receive():
                epoll.unregister(fd)
                del by_fd[fd]
    epoll.close()


class Server:
    def __init__(self, binary: Path, state: str, port: int = 0) -> None:
        log = Path(state).with_suffix(".log")
        command = [str(binary), "serve", "--state", state, "--listen", f"127.0.0.1:{port}", "--min-hold", "0"]
        with log.open("a") as sink:
            self.process = subprocess.Popen(command, stderr=sink)
        while True:
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            ports = [line["address"] for line in lines if line["event"] == "server.listening"]
            if ports and (port == 0 or self.ready(port)):
                self.port = int(ports[-1].rsplit(":", 1)[1])
                return
            time.sleep(0.01)

    def ready(self, port: int) -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200
        except OSError:
            return False

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> dict:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": kind}, method=method
        )
        raw = urllib.request.urlopen(request).read()
        return json.loads(raw) if raw else {}

    def memory(self) -> dict[str, float]:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return {k: int(fields[f"Vm{k}"].split()[0]) / 1024 for k in ("RSS", "HWM")}

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def add_jobs(server: Server, count: int, data: int, tensor: int = 1) -> list[Rank]:
    profile = (ROOT / "examples/gpt3-175b-a100-pp8.csv").read_bytes()
    ranks = []
    for number in range(count):
        job = f"job{number}"
        body = {
            "incarnation": 1,
            "parallel": {"pipeline": PIPELINE, "tensor": tensor, "data": data},
            "blocking_power_w": 85,
            "pipeline": {"schedule": "1f1b", "microbatches": MICROBATCHES},
        }
        fence = server.call("PUT", f"/api/v1/jobs/{job}", json.dumps(body).encode())["schedule_sha256"]
        server.call("PUT", f"/api/v1/jobs/{job}/profile", profile, "text/csv")
        for dp in range(data):
            ranks += [Rank(job, f"{dp}.{pp}.{tp}", fence, 1) for pp in range(PIPELINE) for tp in range(tensor)]
    while any(job["generation"] == 0 for job in server.call("GET", "/api/v1/jobs")["jobs"]):
        time.sleep(0.1)
    return ranks


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def one_notice(ranks: list[Rank], jobs: int, have: list[int], send, pause_s: float) -> list[float]:
    """All poll; one job after the other is given news by `send`, `pause_s` apart. Seconds from each job's notice to the
    answer in each of its ranks."""
    begun = {}

    def notice(number: int):
        def act() -> None:
            begun[f"job{number}"] = time.monotonic()
            send(number)

        return act

    # The first one when all polls wait in the server.
    timed = [(1 + number * pause_s, notice(number)) for number in range(jobs)]
    ask_all(ranks, [rank.poll(h, 100) for rank, h in zip(ranks, have, strict=True)], timed)
    assert all(rank.status == 200 for rank in ranks)
    return [rank.done_at - begun[rank.job] for rank in ranks]


def poster(server: Server, method: str, suffix: str, body: bytes | None):
    """Sends a notice by a connection of its own and does not wait for the answer."""
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]

    def send(number: int) -> None:
        head = f"{method} /api/v1/jobs/job{number}/stragglers{suffix} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connections[number].sendall(f"{head}Content-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))

    return send


def bench_notices(binary: Path, folder: str) -> dict:
    server = Server(binary, f"{folder}/notices")
    ranks = add_jobs(server, 16, 8)
    for rank in ranks:
        rank.connect(server.port)
    ask_all(ranks, [rank.hello() for rank in ranks])
    out = {"ranks": len(ranks), "jobs": 16, "computations_per_pipeline": 2 * PIPELINE * MICROBATCHES}
    notice = json.dumps({"id": "s", "pipeline": 0, "slowdown": 1.2, "cause": "bench"}).encode()
    for name, pause in (("all_jobs_at_once", 0.0), ("one_job_after_another", 0.2)):
        slower, faster, agreed = [], [], []
        cpu = server.cpu_s()
        for _ in range(5):
            ask_all(ranks, [rank.poll(0, 100) for rank in ranks])
            have = [json.loads(rank.body)["revision"] for rank in ranks]
            slower += one_notice(ranks, 16, have, poster(server, "POST", "", notice), pause)
            have = [json.loads(rank.body)["revision"] for rank in ranks]
            begun = time.monotonic()
            ask_all(ranks, [rank.poll(h, 110) for rank, h in zip(ranks, have, strict=True)])
            agreed += [rank.done_at - begun for rank in ranks]
            have = [json.loads(rank.body)["revision"] for rank in ranks]
            faster += one_notice(ranks, 16, have, poster(server, "DELETE", "/s", None), pause)
        for what, values in (
            ("notice_to_new_plan", slower),
            ("all_confirm_to_agreed_step", agreed),
            ("end_to_fast_plan", faster),
        ):
            out[f"{name}.{what}_ms"] = {
                f"p{round(100 * q)}": round(1000 * percentile(values, q), 1) for q in (0.5, 0.99, 1.0)
            }
        out[f"{name}.server_cpu_ms_per_round"] = round(200 * (server.cpu_s() - cpu), 1)
    server.stop()
    return out


def bench_idle_and_storm(binary: Path, folder: str) -> dict:
    server = Server(binary, f"{folder}/storm")
    ranks = add_jobs(server, 10, 16, 8)[:10_000]
    before = server.memory()["RSS"]
    for rank in ranks:
        rank.connect(server.port)
    ask_all(ranks, [rank.hello() for rank in ranks])
    ask_all(ranks, [rank.poll(0, 1) for rank in ranks])
    have = [json.loads(rank.body)["revision"] for rank in ranks]
    for rank, revision in zip(ranks, have, strict=True):
        rank.socket.sendall(rank.poll(revision, 2))
    while f"perseus_polls_waiting {len(ranks)}" not in metrics(server.port):
        time.sleep(0.1)
    memory = server.memory()
    out = {
        "ranks": len(ranks),
        "idle.rss_before_mib": before,
        "idle.rss_mib": memory["RSS"],
        "idle.peak_mib": memory["HWM"],
    }

    server.process.kill()
    server.process.wait()
    for rank in ranks:
        rank.socket.close()
        rank.sequence += 1_000_000
    begun = time.monotonic()
    server = Server(binary, f"{folder}/storm", server.port)
    out["storm.restart_s"] = time.monotonic() - begun
    for rank in ranks:
        rank.connect(server.port)
    ask_all(ranks, [rank.hello() for rank in ranks])
    ask_all(ranks, [rank.poll(0, 3) for rank in ranks])
    out["storm.all_back_s"] = time.monotonic() - begun
    out["storm.answers"] = sum(rank.status == 200 for rank in ranks)
    out["storm.peak_mib"] = server.memory()["HWM"]
    server.stop()
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in out.items()}


def metrics(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "build/release/bin/perseus")
    parser.add_argument("what", nargs="?", choices=["notices", "idle", "storm", "all"], default="all")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as folder:
        result = {"binary": str(arguments.binary), "load_average_at_start": os.getloadavg()[0]}
        if arguments.what in ("notices", "all"):
            result |= {"notices": bench_notices(arguments.binary, folder)}
        if arguments.what in ("idle", "storm", "all"):
            result |= {"idle_and_storm": bench_idle_and_storm(arguments.binary, folder)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
