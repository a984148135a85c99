# SPDX-License-Identifier: Apache-2.0
"""Online profiling over the wire: simulated ranks are swept by a real server, which is killed in between; a job whose
profile is no longer true is swept anew."""

import http.client
import json
import random
from pathlib import Path

import pytest
import training
from node import PATIENCE_S, Node, wait_until
from server_process import Server

CLOCKS = list(range(1410, 690, -30))
RANKS = ["0.0.0", "0.1.0"]
JOB = "/api/v1/jobs/gpt"
BODY = {
    "incarnation": 1,
    "parallel": {"pipeline": 2},
    "pipeline": {"schedule": "1f1b", "microbatches": 4},
    "profiling": {"mode": "online", "clocks": 6, "window_s": 1, "budget_s": 300},
    "fingerprint": "test model",
}


def time_of(kind: str, stage: int, clock: int) -> float:
    return {"F": 0.03, "B": 0.06}[kind] * (1 + 0.2 * stage) * (0.15 + 0.85 * 1410 / clock)


def power_of(kind: str, clock: int) -> float:
    return 90 + {"F": 210, "B": 240}[kind] * (clock / 1410) ** 2.6


class Rank:
    """One GPU that knows the truth. Its intervals are random mixes, as a real counter's are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sequence = 0
        self.have = 0
        self.plan: dict = {}
        self.random = random.Random(name)

    def stamp(self) -> dict:
        self.sequence += 1
        return {"incarnation": 1, "sequence": self.sequence}

    def hello(self, server: Server, step: int) -> None:
        fence = server.call("GET", JOB)[1]["schedule_sha256"]
        body = {"rank": self.name, "schedule_sha256": fence, "step": step, "clocks_mhz": CLOCKS, "clock_control": True}
        assert server.call("POST", f"{JOB}/ranks", self.stamp() | body)[0] == 200
        self.have = 0

    def poll(self, server: Server, step: int) -> None:
        status, plan = server.poll("gpt", self.name, self.have, step, wait_s=0)
        assert status in (200, 204), plan
        if status == 200:
            self.have = plan["revision"]
            # An answer that only agrees on the step leaves out what the rank has.
            self.plan = plan if "windows" in plan or "operations" in plan else self.plan | plan

    def window(self, index: int, step: int) -> dict:
        window = self.plan["windows"][index]
        clocks = [(c["kind"], c["stage"], c["clock_mhz"]) for c in window["clocks"]]
        powers = [power_of(kind, clock) for kind, _, clock in clocks] + [60 + 20 * min(c[2] for c in clocks) / 1410]
        n = len(powers)
        xtx, xty, yty, joules = [0.0] * (n * (n + 1) // 2), [0.0] * n, 0.0, 0.0
        intervals = 20
        for _ in range(intervals):
            cuts = sorted(self.random.random() for _ in range(n - 1))
            x = [0.1 * (b - a) for a, b in zip([0.0, *cuts], [*cuts, 1.0], strict=True)]
            y = sum(a * b for a, b in zip(x, powers, strict=True)) * (1 + self.random.gauss(0, 0.003))
            xtx = [
                s + x[i] * x[j] for s, (i, j) in zip(xtx, ((i, j) for i in range(n) for j in range(i, n)), strict=True)
            ]
            xty = [s + x[i] * y for i, s in enumerate(xty)]
            yty, joules = yty + y * y, joules + y
        steps = window["steps"] - window["skip"]
        return self.stamp() | {
            "generation": self.plan["generation"],
            "window": index,
            "step": step,
            "iterations": steps,
            "iteration_time_s": 0.55 * 1410 / min(c[2] for c in clocks),
            "throttled": 0,
            "kinds": [
                {
                    "kind": kind,
                    "stage": stage,
                    "clock_mhz": clock,
                    "count": 4 * steps,
                    "rejected": 0,
                    "time_s": time_of(kind, stage, clock),
                    "time_std_s": 0.0003,
                }
                for kind, stage, clock in clocks
            ],
            "energy": {
                "intervals": intervals,
                "seconds": 0.1 * intervals,
                "joules": joules,
                "columns": [f"{kind}{stage}@{clock}" for kind, stage, clock in clocks] + ["idle"],
                "xtx": xtx,
                "xty": xty,
                "yty": yty,
            },
            "counter_period_s": 0.1,
        }


class Training:
    """All ranks, step by step."""

    def __init__(self) -> None:
        self.ranks = [Rank(name) for name in RANKS]
        self.step = 10
        self.next_window = 0
        self.acknowledged: set[tuple[str, int, int]] = set()

    def join(self, server: Server) -> None:
        for rank in self.ranks:
            rank.hello(server, self.step)

    def planned(self) -> bool:
        return all("operations" in rank.plan for rank in self.ranks)

    def go_on(self, server: Server) -> None:
        """Polls, and trains through one window if one is agreed."""
        before = {rank.plan.get("generation") for rank in self.ranks}
        for rank in self.ranks:
            rank.poll(server, self.step)
        if {rank.plan.get("generation") for rank in self.ranks} != before:
            self.next_window = 0
        windows = [rank.plan.get("windows", []) for rank in self.ranks]
        agreed = len({rank.plan.get("generation") for rank in self.ranks}) == 1 and all(
            rank.plan.get("from_step") is not None for rank in self.ranks
        )
        if not agreed or self.next_window >= min(map(len, windows)):
            self.step += 1
            return
        index = self.next_window
        self.step = max(self.step, self.ranks[0].plan["from_step"]) + windows[0][index]["steps"]
        for rank in self.ranks:
            report = rank.window(index, self.step - 1)
            status, answer = server.call("POST", f"{JOB}/ranks/{rank.name}/windows", report)
            assert status == 200, answer
            if answer["applied"]:
                self.acknowledged.add((rank.name, report["generation"], index))
        self.next_window += 1


def check_plan(server: Server) -> None:
    detail = server.call("GET", JOB)[1]
    assert (detail["state"], detail["profile_origin"]) == ("planned", "measured")
    profile = server.call("GET", f"{JOB}/profile")[1]
    rows = [line.split(",") for line in profile.splitlines()[1:]]
    for row in rows:
        kind, stage, clock = {"forward": "F", "backward": "B"}[row[1]], int(row[0]), int(row[2])
        assert float(row[3]) == pytest.approx(time_of(kind, stage, clock), rel=1e-6)
        assert float(row[4]) == pytest.approx(time_of(kind, stage, clock) * power_of(kind, clock), rel=0.02)
    assert 60 < detail["profile_facts"]["blocking_power"][0]["power_w"] < 85


def test_ranks_are_swept_and_planned(perseus_binary: Path, tmp_path: Path, perseus) -> None:
    with Server(perseus_binary, tmp_path / "state") as server:
        assert server.call("PUT", JOB, BODY)[0] == 201
        training = Training()
        training.join(server)
        server.wait_for("sweep.begun", job="gpt")
        assert "profiling 0/" in perseus("status", "--server", f"http://127.0.0.1:{server.port}").stdout
        for _ in range(2000):
            training.go_on(server)
            if training.planned():
                break
        check_plan(server)
        metrics = server.call("GET", "/metrics", described=False)[1]
        assert 'perseus_job_sweeps_total{job="gpt"} 1' in str(metrics)


def test_sigkill_during_a_sweep_loses_no_window_that_was_acknowledged(perseus_binary: Path, tmp_path: Path) -> None:
    moments = random.Random(5)
    training = Training()
    kills = 0
    for attempt in range(200):
        with Server(perseus_binary, tmp_path / "state") as server:
            assert not [line for line in server.log if line["event"] == "store.finding"]
            if attempt == 0:
                assert server.call("PUT", JOB, BODY)[0] == 201
            elif not training.planned():
                detail = server.call("GET", JOB)[1]
                profiling = detail["profiling"]
                # Windows that all ranks had acknowledged are done or wait for their batch to end.
                whole = {(g, w) for _, g, w in training.acknowledged}
                generations = sorted({g for g, _ in whole})
                closed = [key for key in whole if key[0] != generations[-1]] if generations else []
                # Nothing is said of a sweep whose profile is stored.
                assert detail["profile_origin"] == "measured" or profiling["windows_done"] >= len(closed)
            training.join(server)
            try:
                for _ in range(moments.randint(1, 6)):
                    training.go_on(server)
                    if training.planned():
                        check_plan(server)
                        print(f"{kills} kills, {len(training.acknowledged)} windows acknowledged, 0 lost")
                        assert kills > 2
                        return
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                pass
            server.kill()
            kills += 1
    pytest.fail("the sweep did not end")


QUICK_SWEEP = {"PERSEUS_PROFILE": "online", "PERSEUS_PROFILE_CLOCKS": "4", "PERSEUS_PROFILE_WINDOW_S": "1"}
HEAVIER = 1.2  # longer sequences, say: the guard's margin is 5 %
SWEEP_S = 4 * PATIENCE_S


def test_a_job_that_became_heavier_trips_its_guard_and_is_swept_anew(perseus_binary: Path, tmp_path: Path) -> None:
    """A real job is swept and planned. It starts again with the same order of computations, all of which take longer, in
    all pipelines: nobody is a straggler, and the promise cannot be kept. Baseline, another sweep, another plan."""
    with (
        Node(perseus_binary, tmp_path, gpus=4, time_scale=training.TIME_SCALE) as node,
        Server(perseus_binary, tmp_path / "server", "--reprofile-interval", 0) as server,
        training.Training(node, server, more=QUICK_SWEEP) as job,
    ):
        node.start_agent()
        job.start()
        wait_until(lambda: job.steps_of() and job.detail()["state"] == "planned", SWEEP_S, training.LOOK_S)
        first = job.wait_follows()
        promised = job.detail()["deployment"]["sync_time_s"]
        light = job.detail()["profile_sha256"]
        job.stop()
        assert not [line for line in server.log if line["event"] == "guard.tripped"]

        job.slowness = HEAVIER
        job.start()
        tripped = server.wait_for("guard.tripped", job=job.name)
        wait_until(lambda: job.detail()["profile_sha256"] != light, SWEEP_S, training.LOOK_S)
        wait_until(lambda: job.detail()["state"] == "planned", SWEEP_S, training.LOOK_S)
        last = job.wait_follows()
        events = [(line["event"], line.get("reason", "")) for line in server.log if line.get("job") == job.name]
        swept = events.index(("sweep.begun", f"guard of rank {tripped['rank']}"))
        assert ("plan.deployed", "guard") in events and ("profile.stored", "") in events[swept:]
        detail = job.detail()
        assert (detail["profile_origin"], detail["guard"], detail["notices"]) == ("measured", None, [])
        assert detail["deployment"]["reason"] == "fastest"
        assert detail["deployment"]["sync_time_s"] == pytest.approx(HEAVIER * promised, rel=0.05)

        # What one rank ran: the plan of the lighter job, then baseline, windows of a sweep, and the new plan.
        steps = job.steps_of()
        slow = [s["step"] for s in steps if s["generation"] == first + 1]
        after = next(s for s in steps if s["step"] > slow[-1])
        assert (after["generation"], after["clock_mhz"]) == (0, 0)
        assert {s["generation"] for s in steps if s["step"] > slow[-1]} > {0, last}

        job.wait_more(30)  # the new promise holds
        assert job.detail()["guard"] is None and job.wait_follows() == last
        trips = sum(job.steps_of(place)[-1]["guard_trips"] for place in job.places)
        assert trips >= 1
        job.stop()
        assert training.settle(node) == 0
        print(
            f"heavier by {HEAVIER:g}: guard after {len(slow)} iterations in {trips} ranks, {len(steps) - len(slow)} "
            f"iterations until the next plan, promise {promised:.3f} s then {detail['deployment']['sync_time_s']:.3f} s"
        )
