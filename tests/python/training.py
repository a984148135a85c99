# SPDX-License-Identifier: Apache-2.0
"""The demo's simulated training job, small, for tests of faults: real rank processes with the real client.

    with Training(node, server) as job:
        job.start()                        # 2 pipelines x 2 stages, each rank a process on its own simulated GPU
        job.upload_profile()               # instead of a sweep: a plan is there after a moment
        job.wait_for_plan()
        job.ranks[0, 1].kill()

What an iteration took and which plan it ran under is read from the lines that each rank writes; what the GPUs do is
asked of the simulated driver.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from node import PATIENCE_S, Node, Process, wait_until
from server_process import Server

TIME_SCALE = 20  # simulated seconds in a real one
TOP_MHZ = 1410
STATIC_W, DYNAMIC_W_PER_MHZ, KNEE_MHZ, TOP_VOLTAGE = 50.0, 0.209, 1080, 1.2  # a100-sxm-80g, docs/model_constants.md
UTILIZATION = 0.8
FORWARD_S = (0.2, 0.26)  # simulated, at the top clock, by stage: the last one is heavier
BACKWARD_S = (0.4, 0.52)
MICROBATCHES = 4
BLOCKING_W = STATIC_W * TIME_SCALE  # ranks know real seconds only
LOOK_S = 0.05  # between two looks that ask the server and read what all ranks wrote
SLOW = 1.25  # an iteration that takes so much longer than the median of those before the fault is delayed. Assumed


def power_w(clock_mhz: int) -> float:
    voltage = 1 + max(0, clock_mhz - KNEE_MHZ) / (TOP_MHZ - KNEE_MHZ) * (TOP_VOLTAGE - 1)
    return STATIC_W + UTILIZATION * DYNAMIC_W_PER_MHZ * clock_mhz * voltage**2


def profile_csv(clocks: range = range(TOP_MHZ, 700, -60)) -> str:
    """What a sweep of this job would find, in real seconds."""
    rows = ["stage,instruction,frequency,time,energy"]
    for stage in range(2):
        for name, top_s in (("forward", FORWARD_S[stage]), ("backward", BACKWARD_S[stage])):
            for clock in clocks:
                simulated_s = top_s * TOP_MHZ / clock
                rows.append(f"{stage},{name},{clock},{simulated_s / TIME_SCALE:.6f},{simulated_s * power_w(clock):.3f}")
    return "\n".join(rows) + "\n"


@dataclass
class Tally:
    """What every row of the fault table reports."""

    row: int
    what: str
    tries: int = 0
    delayed: int = 0  # iterations beyond those of a run with the same fault and without Perseus
    left_low: int = 0
    lost: int = 0  # acknowledged profiles that are gone
    notes: list[str] = field(default_factory=list)

    def report(self) -> None:
        """Prints the line and asserts its zeros but that of delays, which a busy machine makes too."""
        print(
            f"row {self.row}, {self.what}: {self.tries} tries, GPUs left low {self.left_low}, acknowledged lost "
            f"{self.lost}, iterations delayed beyond the fault {self.delayed}{''.join('; ' + n for n in self.notes)}"
        )
        assert self.tries > 0
        assert self.left_low == 0
        assert self.lost == 0


class Training:
    """One incarnation after the other of one job."""

    def __init__(
        self,
        node: Node,
        server: Server | None,
        name: str = "train",
        pipelines: int = 2,
        stages: int = 2,
        *,
        url: str | dict[tuple[int, int], str] | None = None,
        more: dict[str, str] | None = None,
    ):
        """Ranks find the server at `url`, which may be one for each place (default: where `server` listens). `more`
        is added to their environment."""
        self.node = node
        self.server = server
        self.name = name
        self.places = [(p, s) for p in range(pipelines) for s in range(stages)]
        self.pipelines, self.stages = pipelines, stages
        self.urls = url if isinstance(url, dict) else {} if url is None else dict.fromkeys(self.places, url)
        self.more = more or {}
        self.more_of: dict[tuple[int, int], dict[str, str]] = {}  # the same for single places
        # What an elastic restart may change; read when a rank starts.
        self.gpus = {place: number for number, place in enumerate(self.places)}
        self.microbatches = MICROBATCHES
        self.slowness = 1.0  # of all computations, against FORWARD_S and BACKWARD_S
        self.incarnation = 0
        self.ranks: dict[tuple[int, int], Process] = {}
        self._all: list[Process] = []

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_) -> None:
        for process in self._all:
            if process.child.poll() is None:
                process.kill()

    # Running it.
    def out_of(self, place: tuple[int, int]) -> Path:
        return self.node.folder / f"{self.name}-{self.incarnation}-{place[0]}.{place[1]}.out"

    def log_of(self, place: tuple[int, int]) -> Path:
        return self.node.folder / f"{self.name}-{self.incarnation}-{place[0]}.{place[1]}.log"

    def start(self, *, steps: int = 0, actions: dict[tuple[int, int], list[str]] | None = None) -> None:
        self.incarnation += 1
        for place in self.places:
            self.start_rank(place, steps, (actions or {}).get(place, []))

    def start_rank(self, place: tuple[int, int], steps: int, actions: list[str]) -> None:
        pipeline, stage = place
        command = [
            self.node.perseus.parent / "perseus-demo-rank", "--folder", self.node.folder, "--job", self.name,
            "--incarnation", self.incarnation, "--pipelines", self.pipelines, "--stages", self.stages,
            "--pipeline", pipeline, "--stage", stage, "--gpu", self.gpus[place],
            "--microbatches", self.microbatches,
            "--forward", self.slowness * FORWARD_S[stage], "--backward", self.slowness * BACKWARD_S[stage],
            "--utilization", UTILIZATION, "--steps", steps, "--blocking-power", BLOCKING_W,
            *[word for action in actions for word in ("--at", action)],
        ]  # fmt: skip
        with self.out_of(place).open("wb") as out:
            process = Process([str(word) for word in command], self.environment(place), self.log_of(place), stdout=out)
        self.ranks[place] = process
        self._all.append(process)

    def environment(self, place: tuple[int, int] = (0, 0)) -> dict[str, str]:
        url = self.urls.get(place) or (self.server and f"http://127.0.0.1:{self.server.port}")
        if url is None:
            return {**self.node.env, "PERSEUS": "0"}
        return {
            **self.node.env,
            "PERSEUS_SERVER": url,
            "PERSEUS_BACKEND": "agent",
            "PERSEUS_AGENT_SOCKET": str(self.node.socket),
            "PERSEUS_PROFILE": "off",
            **self.more,
            **self.more_of.get(place, {}),
        }

    def stop(self) -> None:
        """As a user would: SIGTERM; all finish their step and end with 0."""
        for process in self.ranks.values():
            process.signal(15)
        for place, process in self.ranks.items():
            assert process.child.wait(PATIENCE_S) == 0, self.log_of(place).read_text()

    def wait_ended(self) -> None:
        for process in self.ranks.values():
            process.child.wait(PATIENCE_S)

    # What it tells.
    def steps_of(self, place: tuple[int, int] = (0, 0)) -> list[dict]:
        lines = self.out_of(place).read_text().splitlines(keepends=True)
        return [e for e in (json.loads(line) for line in lines if line.endswith("\n")) if e["event"] == "step"]

    def wait_step(self, step: int, patience_s: float = PATIENCE_S) -> None:
        def there() -> bool:
            for place, process in self.ranks.items():
                ended = process.child.poll() not in (None, 0)
                assert not ended, f"rank {place}: {self.log_of(place).read_text()}"
            steps = self.steps_of()
            return bool(steps) and steps[-1]["step"] >= step

        wait_until(there, patience_s, LOOK_S)

    def wait_more(self, steps: int, patience_s: float = PATIENCE_S) -> None:
        """Until so many more whole steps have ended."""
        done = self.steps_of()
        self.wait_step((done[-1]["step"] if done else -1) + steps, patience_s)

    def times(self, first: int = 0, last: int | None = None) -> list[float]:
        """Simulated seconds of the iterations, by rank 0.0: from one end to the next."""
        ends = [s["end_ns"] * 1e-9 for s in self.steps_of()]
        times = [after - before for before, after in zip(ends, ends[1:], strict=False)]
        return times[first:last]

    def generations(self) -> dict[tuple[int, int], int]:
        """The generation that each rank ran in its last step."""
        return {place: (self.steps_of(place) or [{"generation": 0}])[-1]["generation"] for place in self.places}

    # The server's side.
    def path(self, rest: str = "") -> str:
        return f"/api/v1/jobs/{self.name}{rest}"

    def call(self, method: str, rest: str = "", body: object = None, expect: int = 200, **options) -> object:
        status, answer = self.server.call(method, self.path(rest), body, **options)
        assert status == expect, (method, rest, status, answer)
        return answer

    def detail(self) -> dict:
        return self.call("GET")

    def upload_profile(self) -> None:
        wait_until(lambda: self.server.call("GET", self.path())[0] == 200)
        self.call("PUT", "/profile", profile_csv(), kind="text/csv")

    def wait_for_plan(self, reason: str | None = None, above: int = 0, patience_s: float = PATIENCE_S) -> int:
        """Until all ranks run one generation above `above` (and of that reason); answers it."""

        def runs() -> bool:
            running = set(self.generations().values())
            return len(running) == 1 and min(running) > above

        wait_until(runs, patience_s, LOOK_S)
        deployed = self.detail()["deployment"]
        assert reason is None or deployed["reason"] == reason, deployed
        return deployed["generation"]

    def wait_follows(self, patience_s: float = PATIENCE_S) -> int:
        """Until all ranks run the generation that is deployed now; answers it."""

        def follows() -> bool:
            deployed = self.detail()["deployment"]
            return deployed is not None and set(self.generations().values()) == {deployed["generation"]}

        wait_until(follows, patience_s, LOOK_S)
        return self.detail()["deployment"]["generation"]

    def planned(self) -> int:
        """Starts it, and answers the generation of its first plan once every rank runs it."""
        self.start()
        self.upload_profile()
        return self.wait_for_plan("fastest")


def without_perseus(node: Node, steps: int, actions: dict | None = None) -> list[float]:
    """Iteration times of the same job with the same fault in it, and no Perseus."""
    with Training(node, None, "plain") as plain:
        plain.start(steps=steps, actions=actions)
        plain.wait_ended()
        return plain.times()


def delayed(times: list[float], usual_s: float) -> int:
    return sum(1 for t in times if t > SLOW * usual_s)


def usual(times: list[float]) -> float:
    return statistics.median(times)


def notice(job: Training, slowdown: float, name: str = "n", ttl_s: float = 60, expect: int = 201) -> None:
    """Announces that pipeline 1 is slow."""
    body = {"id": name, "pipeline": 1, "slowdown": slowdown, "cause": "test", "ttl_s": ttl_s}
    job.call("POST", "/stragglers", body, expect=expect)


def profile_kept(job: Training, tally: Tally) -> None:
    if job.call("GET", "/profile", described=False) != profile_csv():
        tally.lost += 1


def settle(node: Node, patience_s: float = 5.0) -> int:
    """GPUs that are still off their baseline after the time that invariant I1 gives, and a busy machine's."""
    end = time.monotonic() + patience_s
    while (low := node.locked()) and time.monotonic() < end:
        time.sleep(0.05)
    return len(low)


@contextlib.contextmanager
def training_node(perseus: Path, folder: Path) -> Iterator[Node]:
    """Four simulated GPUs and their agent."""
    with Node(perseus, folder, gpus=4, time_scale=TIME_SCALE) as node:
        node.start_agent()
        yield node
