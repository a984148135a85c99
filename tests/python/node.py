# SPDX-License-Identifier: Apache-2.0
"""A node for tests: simulated GPUs, the agent as a real process, and clients of it.

    with Node(perseus_binary, folder, gpus=2) as node:
        agent = node.start_agent()
        owner = node.start_owner("0", clocks=[900, 1200])   # a process that leases GPU 0 and posts clocks
        owner.kill()
        node.wait_until(lambda: node.locked() == {})        # what the simulated driver says, not the agent

Nothing here asks the agent whether a clock is back: the driver is asked, by a process of its own
(`perseus sim show`).
"""

import contextlib
import json
import mmap
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30.0  # for anything; the bounds of RELIABILITY I1 are 1, 3 and 10 s, and machines may be busy
KIND_CLOCK = 1
KIND_BASELINE = 2
ANSWERS = ["none", "applied", "refused", "failed", "yielded", "uncontrollable", "ended"]
MAX_PACKET = 128 * 1024

# Another program that sets a clock, by NVML itself.
NVML_LOCK = """
import ctypes, os, sys
nvml = ctypes.CDLL(os.environ["PERSEUS_SIM_NVML"])
device = ctypes.c_void_p()
gpu, mhz = map(int, sys.argv[1:])
assert nvml.nvmlInit_v2() == 0
assert nvml.nvmlDeviceGetHandleByIndex_v2(gpu, ctypes.byref(device)) == 0
assert nvml.nvmlDeviceSetGpuLockedClocks(device, mhz, mhz) == 0
"""


class RefusedError(Exception):
    """The agent said no."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class EndedError(Exception):
    """The agent closed the connection."""


class Mailbox:
    """The rank's end of the shared page (perseus/wire/mailbox.h)."""

    def __init__(self, fd: int):
        self._page = mmap.mmap(fd, 4096)
        self._words = memoryview(self._page).cast("Q")
        self._sequence = 0
        os.close(fd)

    def post_word(self, word: int) -> None:
        self._words[1] = time.monotonic_ns()
        self._words[0] = word  # one aligned 64-bit store

    def post(self, mhz: int) -> int:
        self._sequence += 1
        self.post_word(self._sequence << 32 | mhz << 16 | KIND_CLOCK)
        return self._sequence

    def post_baseline(self) -> int:
        self._sequence += 1
        self.post_word(self._sequence << 32 | KIND_BASELINE)
        return self._sequence

    def applied(self) -> tuple[int, int, str]:
        """(sequence, MHz, kind) of the last answer."""
        word = self._words[8]
        return word >> 32, word >> 16 & 0xFFFF, ANSWERS[word & 0xFFFF]

    def wait(self, sequence: int) -> tuple[int, str]:
        """(MHz, kind) of the answer to that very post."""
        wait_until(lambda: self.applied()[0] == sequence)
        return self.applied()[1:]


class Client:
    """Speaks protocol 1 by hand, so that it can also misbehave."""

    def __init__(self, path: Path, hello: bool = True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.events: list[dict] = []  # "ended" messages that came between replies
        try:
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect(str(path))
            if hello:
                self.welcome = self.hello()
        except BaseException:
            self.socket.close()
            raise

    def hello(self) -> dict:
        return self.ask({"type": "hello", "protocol": 1, "client": "test"})

    def send(self, data: bytes, fd: int = -1) -> None:
        if fd >= 0:
            socket.send_fds(self.socket, [data], [fd])
        else:
            self.socket.send(data)

    def receive(self) -> tuple[dict, list[int]]:
        data, fds, _, _ = socket.recv_fds(self.socket, MAX_PACKET, 1)
        if not data:
            raise EndedError
        return json.loads(data), list(fds)

    def ask(self, message: dict, fd: int = -1) -> dict:
        self.send(json.dumps(message, separators=(",", ":")).encode(), fd)
        return self.reply()[0]

    def reply(self) -> tuple[dict, list[int]]:
        """The next message that is a reply; a refusal is raised."""
        while True:
            message, fds = self.receive()
            if message["type"] == "ended":
                self.events.append(message)
            elif message["type"] == "error":
                raise RefusedError(message["code"], message["message"])
            else:
                return message, fds

    def acquire(self, gpu: str, job: str = "job", ttl_ms: int = 10_000) -> tuple[dict, Mailbox]:
        request = {"type": "acquire", "gpu": gpu, "job": job, "time_to_live_ms": ttl_ms}
        self.send(json.dumps(request).encode())
        message, fds = self.reply()
        return message, Mailbox(fds[0])

    def renew(self, lease: int) -> None:
        self.ask({"type": "renew", "lease": lease})

    def release(self, lease: int) -> None:
        self.ask({"type": "release", "lease": lease})

    def status(self) -> dict:
        return self.ask({"type": "status"})

    def wait_ended(self) -> dict:
        """The next "ended" message."""
        while not self.events:
            message, _ = self.receive()
            assert message["type"] == "ended", message
            self.events.append(message)
        return self.events.pop(0)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def wait_until(condition: Callable[[], bool], patience_s: float = PATIENCE_S, look_s: float = 0.002) -> float:
    """Waits until the condition holds, looking every `look_s`; returns the seconds that took. Fails after
    `patience_s`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < patience_s, "it did not happen"
        time.sleep(look_s)
    return time.monotonic() - start


class Process:
    """A child process that is killed at the end, whatever the test did."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path, **options):
        self.log = log
        with log.open("ab") as out:
            self.child = subprocess.Popen(command, env=env, stderr=out, stdin=subprocess.DEVNULL, **options)

    @property
    def pid(self) -> int:
        return self.child.pid

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self.child.wait(PATIENCE_S)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.child.wait(PATIENCE_S)


class Owner(Process):
    """A process that leases a GPU and posts clocks in turn until it is killed: this file, run as a program."""

    def __init__(self, node: "Node", gpu: str, clocks: list[int], ttl_ms: int, interval_s: float):
        arguments = [sys.executable, __file__, str(node.socket), gpu, str(ttl_ms), str(interval_s), *map(str, clocks)]
        super().__init__(arguments, node.env, node.folder / "owner.log", stdout=subprocess.PIPE)

    def wait_ready(self) -> None:
        """Returns when the lease is held and the first clock is applied."""
        line = self.child.stdout.readline()
        assert line == b"ready\n", (line, self.log.read_text())


class Node:
    """A machine of its own: simulated GPUs in shared memory, run and state folders, one agent at a time."""

    def __init__(
        self,
        perseus: Path,
        folder: Path,
        *,
        gpus: int = 2,
        gpu_model: str = "a100-sxm-80g",
        seed: int = 1,
        time_scale: float = 1,
    ):
        self.perseus = Path(perseus)
        self.folder = folder
        self.socket = folder / "run" / "agent.sock"
        self.state_dir = folder / "state"
        self.config = folder / "agent.yaml"
        self.grants = folder / "grants.yaml"
        self.log = folder / "agent.log"
        self.agent: Process | None = None
        self._processes: list[Process] = []
        self._clients: list[Client] = []
        # Open to other users, as real device files are: some tests are about them.
        made = self.run(
            "sim", "create", "--gpus", gpus, "--gpu-model", gpu_model, "--seed", seed, "--every-user", "--time-scale", time_scale,
            "--path", folder / "gpus", env=dict(os.environ),
        )  # fmt: skip
        exports = dict(re.findall(r"^export (\w+)=(.*)$", made.stdout, re.MULTILINE))
        self.env = {**os.environ, **exports}
        self.write_config({})
        self.write_grants([])

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.signal(signal.SIGCONT)
            process.kill()
            if process.child.stdout:
                process.child.stdout.close()
        self.run("sim", "destroy", "--path", self.folder / "gpus", check=False)

    def run(self, *arguments: object, env=None, check=True, timeout=PATIENCE_S) -> subprocess.CompletedProcess:
        """Runs `perseus ARGUMENTS` on this node."""
        command = [str(self.perseus), *map(str, arguments)]
        done = subprocess.run(
            command, env=env or self.env, capture_output=True, text=True, check=False, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def run_agent(self, *arguments: object, check=True) -> subprocess.CompletedProcess:
        """Runs `perseus-agent ARGUMENTS` with this node's folders until it ends."""
        command = self.agent_command(*arguments)
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def keep(self, process: Process) -> Process:
        """Killed at the latest with the node."""
        self._processes.append(process)
        return process

    # Files of the agent. JSON is YAML.
    def write_config(self, config: dict) -> None:
        self._write(self.config, config)

    def write_grants(self, grants: list[dict]) -> None:
        self._write(self.grants, {"grants": grants})

    @staticmethod
    def _write(path: Path, content: dict) -> None:
        path.write_text(json.dumps(content) + "\n")
        path.chmod(0o600)

    # The agent.
    def agent_command(self, *arguments: object) -> list[str]:
        return [
            str(self.perseus.parent / "perseus-agent"), "--socket", str(self.socket), "--state-dir", str(self.state_dir),
            "--backend", "sim", "--config", str(self.config), "--grants", str(self.grants), *map(str, arguments),
        ]  # fmt: skip

    def start_agent(self, *arguments: object, wait: bool = True, env: dict[str, str] | None = None) -> Process:
        self.agent = self.keep(Process(self.agent_command(*arguments), {**self.env, **(env or {})}, self.log))
        if wait:
            wait_until(self.agent_answers)
        return self.agent

    def agent_answers(self) -> bool:
        assert self.agent.child.poll() is None, self.log.read_text()
        try:
            Client(self.socket).close()
        except (OSError, EndedError):
            return False
        return True

    def client(self, **options) -> Client:
        """Closed at the latest with the node."""
        self._clients.append(Client(self.socket, **options))
        return self._clients[-1]

    def start_owner(
        self, gpu: str, clocks: list[int], ttl_ms: int = 10_000, interval_s: float = 0.01, ready: bool = True
    ) -> Owner:
        owner = Owner(self, gpu, clocks, ttl_ms, interval_s)
        self.keep(owner)
        if ready:
            owner.wait_ready()
        return owner

    def audit(self) -> list[dict]:
        """The audit log's lines so far, of all agents of this node."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def audited(self, event: str, **members) -> list[dict]:
        return [line for line in self.audit() if line["event"] == event and members.items() <= line.items()]

    def metric(self, sample: str) -> float:
        """The value of one sample, given with its labels, in the metrics file; 0 if it is not there."""
        path = self.socket.parent / "metrics.prom"
        lines = path.read_text().splitlines() if path.exists() else []
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample + " ")), 0.0)

    # The driver, asked behind the agent's back.
    def show(self) -> list[dict]:
        return json.loads(self.run("sim", "show", "--json").stdout)["gpus"]

    def locked(self) -> dict[int, int]:
        """GPUs off their default: index -> MHz."""
        return {gpu["index"]: gpu["locked_mhz"] for gpu in self.show() if gpu["locked_mhz"] is not None}

    def uuid(self, gpu: int) -> str:
        return self.show()[gpu]["uuid"]

    def history(self, gpu: int) -> list[dict]:
        """Setting calls that the driver got, oldest first; "call" is "lock_clock", "reset_clock", ..."""
        return json.loads(self.run("sim", "history", "--gpu", gpu, "--json").stdout)["calls"]

    def lock_from_outside(self, gpu: int, mhz: int) -> None:
        """As another program would, that knows nothing of the agent."""
        subprocess.run([sys.executable, "-c", NVML_LOCK, str(gpu), str(mhz)], env=self.env, check=True)

    def fault(self, gpu: int, fault: str) -> None:
        self.run("sim", "fault", "--gpu", gpu, fault)

    def clear(self, gpu: int, *fault: str) -> None:
        self.run("sim", "fault", "--gpu", gpu, "--clear", *fault)

    def start_work(self, gpu: int, seconds: float) -> Process:
        """A simulated computation: `seconds` at the top clock."""
        command = [str(self.perseus), "sim", "run", "--gpu", str(gpu), "--work", str(seconds)]
        return self.keep(Process(command, self.env, self.folder / "work.log", stdout=subprocess.DEVNULL))

    wait_until = staticmethod(wait_until)

    def wait_all_back(self) -> float:
        """Seconds until the driver says that no GPU is locked."""
        return wait_until(lambda: self.locked() == {})

    def wait_back(self, gpu: int) -> float:
        """Seconds until the driver says that this GPU is not locked."""
        return wait_until(lambda: gpu not in self.locked())

    def records(self) -> int:
        """Leases that the journal knows."""
        return len(list(self.state_dir.glob("*.lease")))


def own_forever(path: str, gpu: str, ttl_ms: str, interval_s: str, *clocks: str) -> None:
    """What an Owner runs: one lease, a renewal every third of its time, a clock every `interval_s`."""
    client = Client(Path(path))
    lease, mailbox = client.acquire(gpu, "owner", int(ttl_ms))
    turn = 0
    renewed = time.monotonic()
    mailbox.wait(mailbox.post(int(clocks[0])))
    print("ready", flush=True)
    while True:
        turn += 1
        mailbox.post(int(clocks[turn % len(clocks)]))
        time.sleep(float(interval_s))
        if time.monotonic() - renewed > int(ttl_ms) / 3000:
            client.renew(lease["lease"])
            renewed = time.monotonic()


def make_word(sequence: int, mhz: int, kind: int) -> int:
    """A mailbox word of any content."""
    return struct.unpack("<Q", struct.pack("<HHI", kind, mhz, sequence))[0]


if __name__ == "__main__":
    with contextlib.suppress(EndedError, RefusedError, ConnectionError, KeyboardInterrupt):
        own_forever(*sys.argv[1:])
