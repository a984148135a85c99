# SPDX-License-Identifier: Apache-2.0
"""A real `perseus serve` for tests, and answers held to schema/openapi.yaml.

with Server(binary, folder) as server:
    server.call("GET", "/api/v1/jobs")          # (status, body), checked against the description
"""

import http.client
import json
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse
from functools import cache
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
PAUSE_S = 0.01  # between two looks
DEADLINE_S = 60  # of anything that a healthy server does at once; long, since test machines are shared

PROFILE = "stage,instruction,frequency,time,energy\n" + "".join(
    f"{stage},{instruction},{clock},{time * 1410 / clock:.6f},{energy * (clock / 1410) ** 1.5:.4f}\n"
    for stage in (0, 1)
    for instruction, time, energy in (("forward", 0.03 + 0.005 * stage, 9.0), ("backward", 0.06, 18.0))
    for clock in (1410, 1200, 990, 780)
)


def registration(incarnation: int = 1, microbatches: int = 4, data: int = 2) -> dict:
    return {
        "incarnation": incarnation,
        "parallel": {"pipeline": 2, "tensor": 1, "data": data},
        "blocking_power_w": 85,
        "pipeline": {"schedule": "1f1b", "microbatches": microbatches},
    }


@cache
def description() -> dict:
    return yaml.safe_load((ROOT / "schema/openapi.yaml").read_text())


def described_response(method: str, path: str, status: int) -> dict:
    """What schema/openapi.yaml says of an answer; an undescribed one is a failure."""
    bare = urllib.parse.urlsplit(path).path
    for template, item in description()["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), bare):
            responses = item[method.lower()]["responses"]
            found = responses.get(str(status)) or (responses["default"] if status >= 400 else None)
            assert found is not None, f"{method} {bare} answers {status}, which is not described"
            if "$ref" in found:
                found = description()["components"]["responses"][found["$ref"].rsplit("/", 1)[1]]
            return found
    raise AssertionError(f"{bare} is not described")


def check_request(method: str, path: str, body: bytes) -> None:
    """Holds a request's body to the description."""
    bare = urllib.parse.urlsplit(path).path
    for template, item in description()["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), bare):
            content = item[method.lower()]["requestBody"]["content"]["application/json"]
            schema = {**description(), **content["schema"]}
            errors = [
                f"{e.json_path}: {e.message}"
                for e in jsonschema.Draft202012Validator(schema).iter_errors(json.loads(body))
            ]
            assert errors == [], f"{method} {path}: {errors}"
            return
    raise AssertionError(f"{bare} is not described")


def check_against_description(method: str, path: str, status: int, kind: str, body: bytes) -> None:
    content = described_response(method, path, status).get("content")
    if content is None:
        assert body == b"", f"{method} {path}: {status} has a body, and none is described"
        return
    bare = kind.split(";", maxsplit=1)[0]
    assert bare in content, f"{method} {path}: {bare} is not described"
    if bare == "application/json":
        # References are resolved within the whole description.
        schema = {**description(), **content[bare]["schema"]}
        errors = [
            f"{e.json_path}: {e.message}" for e in jsonschema.Draft202012Validator(schema).iter_errors(json.loads(body))
        ]
        assert errors == [], f"{method} {path}: {errors}"


class Server:
    """One process. Its log is kept as parsed lines; every line must be a JSON object."""

    def __init__(
        self, binary: Path, state: Path, *flags: object, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.tls = tls
        self.token: str | None = None
        self.log: list[dict] = []
        self._events = threading.Condition()
        command = [str(binary), "serve", "--state", str(state), "--listen", f"127.0.0.1:{port}", *map(str, flags)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        listening = self.wait_for("server.listening")
        self.port = int(listening["address"].rsplit(":", 1)[1])

    def _read_log(self) -> None:
        for line in self.process.stderr:
            with self._events:
                self.log.append(json.loads(line))
                self._events.notify_all()
        with self._events:
            self.log.append({"event": "end of log"})
            self._events.notify_all()

    def wait_for(self, event: str, **fields: str) -> dict:
        """The first log line of that event and fields, waiting for it."""

        def found() -> dict | None:
            for line in self.log:
                if line["event"] == event and fields.items() <= line.items():
                    return line
            return {"event": "end"} if self.log and self.log[-1]["event"] == "end of log" else None

        with self._events:
            line = self._events.wait_for(found, timeout=DEADLINE_S)
        assert line is not None and line["event"] == event, f"no {event} {fields} in {self.log[-20:]}"
        return line

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=DEADLINE_S, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = "application/json",
        headers: dict | None = None,
        token: str | None = None,
        described: bool = True,
    ) -> tuple[int, object]:
        connection = self.connect()
        try:
            data = body if isinstance(body, str | bytes | None) else json.dumps(body)
            sent = {"Content-Type": kind} if body is not None else {}
            if token or self.token:
                sent["Authorization"] = f"Bearer {token or self.token}"
            connection.request(method, path, data, sent | (headers or {}))
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        content_type = answer.getheader("Content-Type", "")
        if described:
            check_against_description(method, path, answer.status, content_type, raw)
        return answer.status, json.loads(raw) if content_type == "application/json" else raw.decode()

    def plan_job(self, job: str = "gpt", **options: int) -> dict:
        """Registers a job with a profile and all its ranks; waits for its first plan; answers its detail."""
        status, _ = self.call("PUT", f"/api/v1/jobs/{job}", registration(**options))
        assert status == 201
        status, _ = self.call("PUT", f"/api/v1/jobs/{job}/profile", PROFILE, kind="text/csv")
        assert status == 200
        self.wait_for("plan.deployed", job=job)
        # Agreed at once, since there are no ranks: whoever says hello before that is waited for.
        end = time.monotonic() + DEADLINE_S
        while (detail := self.call("GET", f"/api/v1/jobs/{job}")[1])["deployment"]["from_step"] is None:
            assert time.monotonic() < end, detail
            time.sleep(PAUSE_S)
        for dp in range(detail["parallel"]["data"]):
            for pp in range(2):
                self.hello(job, f"{dp}.{pp}.0", detail["schedule_sha256"])
        return detail

    def hello(self, job: str, rank: str, fence: str, incarnation: int = 1, sequence: int = 1) -> dict:
        status, applied = self.call(
            "POST",
            f"/api/v1/jobs/{job}/ranks",
            {"incarnation": incarnation, "sequence": sequence, "rank": rank, "schedule_sha256": fence, "step": 10},
        )
        assert status == 200, applied
        return applied

    def poll(self, job: str, rank: str, have: int, step: int = 10, wait_s: int = 30) -> tuple[int, dict]:
        path = f"/api/v1/jobs/{job}/ranks/{rank}/plan?incarnation=1&have={have}&step={step}&wait_s={wait_s}"
        return self.call("GET", path)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=DEADLINE_S)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._reader.join(timeout=DEADLINE_S)
        self.process.stderr.close()
        self.process.stdout.close()
