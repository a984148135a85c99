# SPDX-License-Identifier: Apache-2.0
"""A training rank for tests: a process that has the client's shared library loaded and does what it is told.

    with Rank(library, env, {"job": "gpt", "pp": 2, "pp_rank": 1, ...}) as rank:
        rank.ask("step")       # one step of its order; the client's state as a dict
        rank.pid

Run as a program it reads one command a line and answers each with one line of JSON.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 60.0  # for an answer
KINDS = {"F": 0, "B": 1, "I": 2, "W": 3, "FB": 4, "R": 5}


class Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t), ("job", ctypes.c_char_p), ("incarnation", ctypes.c_uint64),
        ("dp", ctypes.c_uint32), ("pp", ctypes.c_uint32), ("tp", ctypes.c_uint32),
        ("dp_rank", ctypes.c_uint32), ("pp_rank", ctypes.c_uint32), ("tp_rank", ctypes.c_uint32),
        ("schedule", ctypes.c_char_p), ("microbatches", ctypes.c_uint32), ("virtual_stages", ctypes.c_uint32),
        ("group_size", ctypes.c_uint32), ("orders", ctypes.c_void_p), ("blocking_power_w", ctypes.c_double),
        ("gpu", ctypes.c_char_p), ("server", ctypes.c_char_p), ("backend", ctypes.c_char_p),
        ("agent_socket", ctypes.c_char_p), ("trigger", ctypes.c_char_p), ("stream", ctypes.c_void_p),
        ("fingerprint", ctypes.c_char_p), ("log", ctypes.c_void_p), ("log_user", ctypes.c_void_p),
    ]  # fmt: skip


class State(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t), ("step", ctypes.c_uint64), ("generation", ctypes.c_uint64),
        ("clock_mhz", ctypes.c_uint32), ("server_connected", ctypes.c_uint32), ("clock_connected", ctypes.c_uint32),
        *[(name, ctypes.c_uint64) for name in (
            "steps", "operations", "unknown_operations", "missing_operations", "posts", "guard_trips", "plans_taken",
            "plans_expired", "hook_timeouts", "dropped_reports", "refused_answers", "link_failures")],
        ("promised_time_s", ctypes.c_double), ("iteration_time_s", ctypes.c_double),
        ("reordered_operations", ctypes.c_uint64), ("lost_records", ctypes.c_uint64),
    ]  # fmt: skip


class Library:
    """The C interface."""

    def __init__(self, path: str):
        self.dll = ctypes.CDLL(path)
        self.client = ctypes.c_void_p()
        for name in ("begin_step", "end_step", "close"):
            getattr(self.dll, f"perseus_{name}").argtypes = [ctypes.c_void_p]
        hook = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32]
        self.dll.perseus_begin.argtypes = self.dll.perseus_end.argtypes = hook

    def open(self, options: dict) -> tuple[int, str]:
        made = Options(size=ctypes.sizeof(Options), dp=1, pp=1, tp=1, virtual_stages=1, blocking_power_w=-1.0)
        for name, value in options.items():
            setattr(made, name, value.encode() if isinstance(value, str) else value)
        message = ctypes.create_string_buffer(512)
        code = self.dll.perseus_open(ctypes.byref(made), ctypes.byref(self.client), message, 512)
        return code, message.value.decode()

    def state(self) -> dict:
        state = State(size=ctypes.sizeof(State))
        assert self.dll.perseus_get_state(self.client, ctypes.byref(state)) == 0
        return {name: getattr(state, name) for name, _ in State._fields_}

    def step(self, order: list[str], seconds: float) -> None:
        """One training step: each computation takes `seconds`."""
        self.dll.perseus_begin_step(self.client)
        for cell in order:
            kind = cell.strip("0123456789")
            stage, microbatch = map(int, cell.split(kind))
            self.dll.perseus_begin(self.client, KINDS[kind], stage, microbatch)
            time.sleep(seconds)
            self.dll.perseus_end(self.client, KINDS[kind], stage, microbatch)
        self.dll.perseus_end_step(self.client)


class Rank:
    """The process, seen from the test."""

    def __init__(self, library: Path, env: dict[str, str], options: dict, order: str, seconds: float = 0.0):
        setup = {"library": str(library), "options": options, "order": order.split(","), "seconds": seconds}
        self.child = subprocess.Popen(
            [sys.executable, __file__, json.dumps(setup)],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.opened = self._answer()

    @property
    def pid(self) -> int:
        return self.child.pid

    def _answer(self) -> dict:
        line = self.child.stdout.readline()
        assert line, f"the rank has ended: {self.child.stderr.read()}"
        return json.loads(line)

    def ask(self, command: str) -> dict:
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(PATIENCE_S)

    def __enter__(self) -> "Rank":
        return self

    def __exit__(self, *_) -> None:
        if self.child.poll() is None:
            self.kill()
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            stream.close()


def fork(library: Library, order: list[str]) -> dict:
    """A data loader's process: it uses the client as its parent does, says what it sees, and stays."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        library.step(order, 0.0)
        seen = {"steps": library.state()["steps"], "sockets": sockets()}
        library.dll.perseus_close(library.client)
        os.write(write, json.dumps(seen).encode())
        signal.pause()
        os._exit(0)
    os.close(write)
    seen = json.loads(os.read(read, 4096))
    os.close(read)
    return {"pid": child, **seen}


def sockets() -> int:
    """Sockets that this process has open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue  # the folder's own descriptor
    return count


def main() -> None:
    setup = json.loads(sys.argv[1])
    library = Library(setup["library"])
    code, message = library.open(setup["options"])
    answer = {"code": code, "message": message}
    order = setup["order"]
    while True:
        print(json.dumps(answer), flush=True)
        command = sys.stdin.readline().split()
        if not command:
            return
        if command[0] == "step":
            library.step(order, setup["seconds"])
            answer = library.state()
        elif command[0] == "begin":  # a step that stays open in its first computation
            library.dll.perseus_begin_step(library.client)
            library.dll.perseus_begin(library.client, 0, 0, 0)
            answer = library.state()
        elif command[0] == "state":
            answer = library.state() | {"sockets": sockets()}
        elif command[0] == "fork":
            answer = fork(library, order)
        elif command[0] == "close":
            library.dll.perseus_close(library.client)
            answer = {"closed": True}


if __name__ == "__main__":
    main()
