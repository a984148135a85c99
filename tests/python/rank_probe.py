# SPDX-License-Identifier: Apache-2.0
"""Ranks' links to a server (tests/client_probe), and a network between the two that can be cut.

with Proxy(server.port) as network, Probe(binary, "--server", network.url, "--ranks", 4) as ranks:
    ranks.wait_for("plan", rank="1.0.0", generation=1)
    network.mode = "hole"                       # nothing gets through, nobody is told
    ranks.wait_state(lambda s: s["failures"] > 2)
"""

import contextlib
import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 120  # of anything that happens at once on an idle machine; test machines are shared
PAUSE_S = 0.05  # between two looks at something that nobody announces

# Short waits, so that a lost server is noticed and found again within a test; what is asserted does not depend on them.
FAST = [
    *("--connect-ms", 3000, "--answer-ms", 1500, "--grace-ms", 1500, "--poll-wait-s", 2),
    *("--first-retry-ms", 20, "--most-retry-ms", 300, "--refused-retry-ms", 300),
]


class Probe:
    """One process with links of some ranks. Its events are kept in order."""

    def __init__(self, binary: Path, *flags: object, env: dict | None = None) -> None:
        self.events: list[dict] = []
        self._changed = threading.Condition()
        command = [str(binary.parent / "client_probe"), *map(str, flags)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=env
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self.events.append({"event": "end"})
            self._changed.notify_all()

    def say(self, *words: object) -> None:
        print(*words, file=self.process.stdin, flush=True)

    def wait_until(self, found: Callable[[list[dict]], object], what: str = "") -> object:
        with self._changed:
            result = self._changed.wait_for(
                lambda: found(self.events) or (self.events and self.events[-1]["event"] == "end"), timeout=DEADLINE_S
            )
            result = result and found(self.events)
        assert result, f"waited for {what or found} in vain; last events: {self.events[-12:]}"
        return result

    def wait_for(self, event: str, start: int = 0, **fields: object) -> dict:
        """The first event of that kind with those fields, from number `start` on."""

        def found(events: list[dict]) -> dict | None:
            for e in events[start:]:
                if e["event"] == event and fields.items() <= e.items():
                    return e
            return None

        return self.wait_until(found, f"{event} {fields}")

    def plans(self, rank: str | None = None) -> list[dict]:
        with self._changed:
            return [e for e in self.events if e["event"] == "plan" and rank in (None, e["rank"])]

    def logged(self) -> list[str]:
        with self._changed:
            return [e["line"] for e in self.events if e["event"] == "log"]

    def refusals(self) -> list[dict]:
        with self._changed:
            return [e for e in self.events if e["event"] == "refused"]

    def state(self) -> dict:
        start = len(self.events)
        self.say("state")
        return self.wait_for("state", start)

    def wait_state(self, ready: Callable[[dict], bool]) -> dict:
        pause = threading.Event()
        for _ in range(int(DEADLINE_S / PAUSE_S)):
            state = self.state()
            if ready(state):
                return state
            pause.wait(PAUSE_S)
        raise AssertionError(f"waited in vain; last state: {state}, last events: {self.events[-12:]}")

    def stop(self, patience_ms: int = 30_000) -> None:
        start = len(self.events)
        self.say("stop", patience_ms)
        self.wait_for("stopped", start)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=DEADLINE_S)
        self._reader.join(timeout=DEADLINE_S)
        self.process.stdin.close()
        self.process.stdout.close()


class Proxy:
    """A network between ranks and server. `mode` says what becomes of bytes:

    forward   they arrive
    hole      they vanish, both ways; a connection that has lost some stays dead, as half-open ones do
    cut       the same; who connects meanwhile is heard when the mode is another one again
    hold      they arrive when the mode is another one again, late and in order
    garbage   what the server says arrives as other bytes
    drip      what the server says arrives at fifty bytes a second
    skew      answers carry a Date of an hour ago
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.target = port
        self.mode = "forward"
        self.requests: list[bytes] = []  # whole ones, as the ranks sent them
        self._address = address
        self._chaos = random.Random(20261124)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((address, 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{address}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
                while self.mode == "cut" and not self._stopping.is_set():
                    self._stopping.wait(0.01)
                # In a hole there is nobody to connect to, and the rank must not hear of it.
                server = None if self.mode == "hole" else socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if not self._stopping.is_set():
                    client.close()
                continue
            with self._lock:
                self._sockets += [client] if server is None else [client, server]
            if server is None:
                continue
            dead = threading.Event()
            threading.Thread(target=self._pump, args=(client, server, dead, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, dead, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, dead: threading.Event, from_rank: bool) -> None:
        heard = b""
        try:
            while data := source.recv(65536):
                while self.mode == "hold" and not self._stopping.is_set():
                    self._stopping.wait(0.01)
                if self.mode in ("hole", "cut"):
                    dead.set()
                if dead.is_set():
                    continue
                if from_rank:
                    heard = self._record(heard + data)
                    sink.sendall(data)
                else:
                    self._answer(sink, data)
        except OSError:
            pass
        if not dead.is_set() or self._stopping.is_set():
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _answer(self, sink: socket.socket, data: bytes) -> None:
        if self.mode == "garbage":
            data = self._chaos.randbytes(len(data))
        elif self.mode == "skew":
            data = data.replace(b"\r\n", b"\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n", 1)
        elif self.mode == "drip":
            for i in range(len(data)):
                sink.sendall(data[i : i + 1])
                if self.mode == "drip":
                    self._stopping.wait(0.02)
            return
        sink.sendall(data)

    def _record(self, heard: bytes) -> bytes:
        """Takes whole requests off the front of what was heard."""
        while (end := heard.find(b"\r\n\r\n")) >= 0:
            at = heard.find(b"Content-Length: ", 0, end)
            size = end + 4 + (int(heard[at + 16 : heard.find(b"\r", at)]) if at >= 0 else 0)
            if len(heard) < size:
                break
            self.requests.append(heard[:size])
            heard = heard[size:]
        return heard

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._lock:
            for end in (self._listener, *self._sockets):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
