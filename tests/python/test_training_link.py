# SPDX-License-Identifier: Apache-2.0
"""Rows 1, 2, 7, 15, 17, 18, 21, 22 and 33 of the fault table, with a training job: what goes wrong between its ranks and
the server. Ranks, agent and server are real, GPUs and network simulated (training.py, rank_probe.py); test_rank_link.py
has the same rows for links alone, with more tries.

None of these faults touches training itself. So "iterations delayed beyond the fault" are those that took longer than
the plan allowed, above those of a job that trains without Perseus (`alone`); a busy machine makes some of both, and the
line says what an iteration usually took. More tries: PERSEUS_FAULT_TRIES=20 pytest tests/python/test_training_link.py -s
"""

import contextlib
import http.client
import os
import random
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import PATIENCE_S, Node, wait_until
from rank_probe import Probe, Proxy
from server_process import DEADLINE_S, PROFILE, Server
from test_server_faults import raw
from training import (
    LOOK_S,
    TIME_SCALE,
    Tally,
    Training,
    delayed,
    notice,
    profile_kept,
    settle,
    training_node,
    usual,
    without_perseus,
)

TRIES = int(os.environ.get("PERSEUS_FAULT_TRIES", "2"))
RULES = ["--min-hold", 0, "--rank-ttl", 3]
PLAN_TTL_S = 3
ALONE_STEPS = 25
# Ranks notice a dead connection after 15 s and try again within as long as the fault lasted, at most 30 s.
RETURN_S = 4 * PATIENCE_S
ADMIN, OURS, OTHERS = "a" * 32, "t" * 32, "o" * 32


@pytest.fixture
def node(perseus_binary: Path, tmp_path: Path):
    with training_node(perseus_binary, tmp_path) as made:
        yield made


@pytest.fixture
def server(perseus_binary: Path, tmp_path: Path):
    with Server(perseus_binary, tmp_path / "server", *RULES) as made:
        yield made


@pytest.fixture(scope="module")
def alone(perseus_binary: Path, tmp_path_factory) -> list[float]:
    """Iteration times of the job without Perseus. The faults of this file do not touch it."""
    folder = tmp_path_factory.mktemp("alone")
    with Node(perseus_binary, folder, gpus=4, time_scale=TIME_SCALE) as node:
        return without_perseus(node, ALONE_STEPS)


def count_delays(job: Training, tally: Tally, alone: list[float], slowest: float = 1) -> None:
    """Counts the iterations of this incarnation. `slowest`: of the stragglers that were announced."""
    free = usual(alone)
    tally.delayed += max(0, delayed(job.times(), slowest * free) - delayed(alone, free))
    tally.notes.append(
        f"{usual(job.times()):.2f} simulated s an iteration ({len(job.times())} of them, at most {slowest:g} times as long "
        f"by plan) and {free:.2f} s without Perseus"
    )


def finish(job: Training, node: Node, tally: Tally, alone: list[float], slowest: float = 1) -> None:
    """Ends the job as a user would, counts, and prints."""
    job.stop()
    tally.left_low += settle(node)
    count_delays(job, tally, alone, slowest)
    profile_kept(job, tally)
    tally.report()


def live(job: Training) -> int:
    return job.detail()["ranks_live"]


def noticed(job: Training, places: list[tuple[int, int]] | None = None) -> bool:
    """Every rank has said that its server is away."""
    return all("gives no usable answer" in job.log_of(place).read_text() for place in places or job.places)


# The server goes and comes.


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that is ours and refuses connections until a server listens there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def change_until_killed(job: Training, after_s: float) -> set[str]:
    """Notices come and go until SIGKILL ends the server; answers those that were acknowledged and not withdrawn."""
    acknowledged: set[str] = set()
    killer = threading.Timer(after_s, job.server.kill)
    killer.start()
    with contextlib.suppress(OSError, http.client.HTTPException):
        for number in range(10_000):
            notice(job, 1.1 + 0.05 * (number % 4), f"n{number}")
            acknowledged.add(f"n{number}")
            if number >= 3:
                acknowledged.discard(f"n{number - 3}")  # whether it was withdrawn is not known until that is answered
                job.call("DELETE", f"/stragglers/n{number - 3}", expect=204)
            killer.join(LOOK_S)
    killer.join()
    return acknowledged


def check_restarted(job: Training, tally: Tally, acknowledged: set[str], newest: int) -> None:
    """A server on the store of one that was killed: what it knows, and that the ranks come back as they were."""
    wait_until(lambda: live(job) == len(job.places), RETURN_S, LOOK_S)
    detail = job.detail()
    tally.lost += len(acknowledged - {n["id"] for n in detail["notices"]})
    profile_kept(job, tally)
    assert detail["incarnation"] == 1
    assert detail["deployment"]["generation"] >= newest
    for left in detail["notices"]:
        job.call("DELETE", f"/stragglers/{left['id']}", expect=204)
    job.wait_follows(RETURN_S)
    assert [line for line in job.server.log if line["event"] in ("sweep.begun", "store.finding")] == []


def test_row_1_a_server_that_is_absent_killed_and_started_again(
    perseus_binary: Path, node: Node, tmp_path: Path, alone: list[float]
) -> None:
    """Ranks are there before the server. It is killed at random moments while plans change, and started again: they
    keep their plans. Then it stays away for longer than a plan lives: baseline, and the plan again when it is back."""
    tally = Tally(1, "server absent, killed and restarted")
    moments = random.Random(1)
    with (
        reserved_port() as port,
        Training(node, None, url=f"http://127.0.0.1:{port}", more={"PERSEUS_PROFILE": "online"}) as job,
        contextlib.ExitStack() as servers,
    ):

        def serve(*flags: object) -> None:
            job.server = servers.enter_context(Server(perseus_binary, tmp_path / "server", *RULES, *flags, port=port))

        job.start()
        job.wait_more(4)
        assert set(job.generations().values()) == {0} and node.locked() == {}
        serve()
        job.upload_profile()
        wait_until(lambda: job.detail()["state"] == "planned", look_s=LOOK_S)
        job.wait_follows(RETURN_S)
        for _ in range(TRIES):
            acknowledged = change_until_killed(job, moments.uniform(0.3, 1.5))
            job.wait_more(3)
            held = job.generations()
            assert 0 not in held.values(), "a plan outlives its server"
            job.wait_more(2)
            assert job.generations() == held
            serve()
            check_restarted(job, tally, acknowledged, max(held.values()))
            tally.tries += 1

        job.server.stop()
        serve("--plan-ttl", PLAN_TTL_S)
        check_restarted(job, tally, set(), 1)
        # A plan that every rank has from this server, with its time to live.
        notice(job, 1.1)
        held = job.wait_for_plan("straggler", above=max(job.generations().values()), patience_s=RETURN_S)
        job.server.kill()
        # A plan ends between two computations, and its rank begins the next steps without one.
        took = wait_until(lambda: node.locked() == {} and set(job.generations().values()) == {0}, PATIENCE_S, LOOK_S)
        tally.notes.append(f"baseline {took:.1f} s after the server was gone, with {PLAN_TTL_S} s for plans")
        job.wait_more(3)
        assert node.locked() == {}
        assert all(job.steps_of(place)[-1]["plans_expired"] >= 1 for place in job.places)
        serve()
        check_restarted(job, tally, {"n"}, held)
        wait_until(lambda: node.locked() != {})
        tally.tries += 2
        finish(job, node, tally, alone, slowest=1.25)
        assert live(job) == 0


def test_row_2_a_server_that_hangs_drips_or_talks_garbage(node: Node, server: Server, alone: list[float]) -> None:
    """The server is stopped until every rank has given it up. Then one pipeline hears garbage and the other one hears
    it at fifty bytes a second. Plans stay, and those that were made meanwhile come when it is over."""
    tally = Tally(2, "server hangs; garbage; drip", tries=3)
    with (
        Proxy(server.port) as garbled,
        Proxy(server.port) as dripping,
    ):
        url = {(p, s): (garbled, dripping)[p].url for p in range(2) for s in range(2)}
        with Training(node, server, url=url) as job:
            generation = job.planned()
            server.process.send_signal(signal.SIGSTOP)
            took = wait_until(lambda: noticed(job), RETURN_S, LOOK_S)
            job.wait_more(3)
            assert job.generations() == dict.fromkeys(job.places, generation)
            server.process.send_signal(signal.SIGCONT)
            tally.notes.append(f"given up after {took:.1f} s")

            garbled.mode, dripping.mode = "garbage", "drip"
            asked = len(garbled.requests), len(dripping.requests)
            notice(job, 1.2)
            wait_until(lambda: job.detail()["deployment"]["generation"] > generation, RETURN_S, LOOK_S)
            wait_until(lambda: len(garbled.requests) >= asked[0] + 6, RETURN_S, LOOK_S)
            wait_until(lambda: len(dripping.requests) >= asked[1] + 4, RETURN_S, LOOK_S)
            job.wait_more(3)
            assert {g for place, g in job.generations().items() if place[0] == 0} == {generation}
            garbled.mode = dripping.mode = "forward"
            generation = job.wait_for_plan("straggler", above=generation, patience_s=RETURN_S)
            job.call("DELETE", "/stragglers/n", expect=204)
            job.wait_for_plan("recovered", above=generation)
            finish(job, node, tally, alone, slowest=1.2)


def test_row_7_a_network_that_is_cut_and_clocks_that_are_an_hour_off(
    node: Node, server: Server, alone: list[float]
) -> None:
    """All that is heard carries a Date of another hour. Then nothing gets through to one pipeline, and nobody is told,
    while a straggler recovers: it keeps the slow plan, the other one's guard sees that the promise does not hold, and
    nobody is to blame. When the cut is over all run the fast plan."""
    tally = Tally(7, "network cut, clocks off", tries=1)
    with Proxy(server.port) as whole, Proxy(server.port) as network:
        url = {(p, s): (network, whole)[p].url for p in range(2) for s in range(2)}
        cut_off, others = [(0, 0), (0, 1)], [(1, 0), (1, 1)]
        whole.mode = network.mode = "skew"
        with Training(node, server, url=url) as job:
            generation = job.planned()
            notice(job, 1.2)
            generation = job.wait_for_plan("straggler", above=generation)
            network.mode = "cut"
            job.call("DELETE", "/stragglers/n", expect=204)
            took = wait_until(lambda: noticed(job, cut_off), RETURN_S, LOOK_S)
            wait_until(lambda: all(job.steps_of(p)[-1]["guard_trips"] for p in others), RETURN_S, LOOK_S)
            job.wait_more(2)  # the server has heard of it
            assert [job.generations()[p] for p in cut_off] == [generation] * 2
            network.mode = "skew"
            took_back = wait_until(lambda: live(job) == len(job.places), RETURN_S, LOOK_S)
            tally.notes.append(f"given up after {took:.1f} s, back {took_back:.1f} s after the cut")
            assert job.wait_follows(RETURN_S) > generation
            detail = job.detail()
            assert (detail["state"], detail["notices"], detail["guard"]) == ("planned", [], None)
            assert detail["deployment"]["reason"] == "fastest"
            for place in cut_off:
                told = [line for line in job.log_of(place).read_text().splitlines() if "the server at" in line]
                assert len(told) == 2, told  # lost, and back
            finish(job, node, tally, alone, slowest=1.2)


# Messages of another time.


def replay(port: int, requests: list[bytes], chaos: random.Random, *, cut: bool = True) -> list[int]:
    """Says all of it again in another order, some of it not to its end; answers the answers' statuses (0: none)."""
    statuses = []
    for request in chaos.sample(requests, len(requests)):
        whole = not cut or chaos.random() < 0.7
        answer = raw(port, request if whole else request[: chaos.randrange(1, len(request))])
        statuses.append(int(answer.split(b" ")[1]) if answer else 0)
        assert answer == b"" or 200 <= statuses[-1] < 500, (request, answer)
    return statuses


def test_row_15_an_elastic_restart_with_ranks_permuted_and_other_microbatches(
    node: Node, server: Server, alone: list[float]
) -> None:
    """A rank dies, the launcher starts all of them anew: on each other's GPUs and with other microbatches. They get
    plans for what they are now; what the old ones said is refused when it is said again."""
    tally = Tally(15, "elastic restart, ranks permuted, other microbatches")
    chaos = random.Random(15)
    refused = 0
    with Proxy(server.port) as network, Training(node, server, url=network.url) as job:
        newest = job.planned()
        for _ in range(TRIES):
            job.wait_more(2)
            job.ranks[chaos.choice(job.places)].kill()
            job.wait_ended()
            count_delays(job, tally, alone, job.microbatches / 4)
            tally.left_low += settle(node)
            old = network.requests.copy()
            order = list(range(4))
            while order == list(job.gpus.values()):
                chaos.shuffle(order)
            job.gpus = dict(zip(job.places, order, strict=True))
            job.microbatches = 10 - job.microbatches  # 4 and 6 in turn
            job.start()
            wait_until(lambda: job.detail()["incarnation"] == job.incarnation, look_s=LOOK_S)
            statuses = replay(server.port, old, chaos, cut=False)
            assert set(statuses) == {409}, statuses
            refused += len(statuses)
            generation = job.wait_for_plan("fastest", above=newest)
            job.wait_more(3)
            statuses = replay(server.port, old, chaos, cut=False)
            assert set(statuses) == {409}, statuses
            refused += len(statuses)
            job.wait_more(2)
            for place in job.places:
                assert {s["generation"] for s in job.steps_of(place)} <= {0, generation}, "an old plan"
                last = job.steps_of(place)[-1]
                assert (last["unknown"], last["missing"]) == (0, 0), "a plan for other microbatches"
            gpus = {r["rank"]: r["gpu_uuid"] for r in job.detail()["ranks"]}
            assert gpus == {f"{p}.{s}.0": node.uuid(gpu) for (p, s), gpu in job.gpus.items()}
            newest = generation
            tally.tries += 1
        tally.notes.append(f"{refused} messages of old ranks refused")
        finish(job, node, tally, alone, job.microbatches / 4)


def test_row_18_messages_that_are_repeated_late_reordered_or_cut_off(
    node: Node, server: Server, alone: list[float]
) -> None:
    """All that the ranks have said is said again while they train, and once more when they are gone."""
    tally = Tally(18, "messages repeated, late, out of order, cut off")
    chaos = random.Random(18)

    def said() -> list[bytes]:
        return [request for request in network.requests if not request.startswith(b"GET")]

    with Proxy(server.port) as network, Training(node, server, url=network.url) as job:
        generation = job.planned()
        # The first reports of a plan come after five seconds.
        wait_until(lambda: sum(b"/measurements" in r for r in said()) >= len(job.places), look_s=LOOK_S)
        for attempt in range(TRIES):
            tally.tries += len(replay(server.port, said(), chaos))
            job.wait_more(2)
            assert job.generations() == dict.fromkeys(job.places, generation)
            assert live(job) == len(job.places)
            notice(job, 1.2, f"n{attempt}")
            generation = job.wait_for_plan("straggler", above=generation)
            job.call("DELETE", f"/stragglers/n{attempt}", expect=204)
            tally.tries += len(replay(server.port, said(), chaos))
            generation = job.wait_for_plan("recovered", above=generation)
        assert job.detail()["notices"] == [] and job.detail()["incarnation"] == 1
        assert "perseus_repeated_messages_total 0\n" not in server.call("GET", "/metrics")[1]
        job.stop()
        wait_until(lambda: live(job) == 0, look_s=LOOK_S)
        tally.tries += len(replay(server.port, said(), chaos))
        assert live(job) == 0, "a late message is no sign of life"
        tally.left_low += settle(node)
        count_delays(job, tally, alone, 1.2)
        profile_kept(job, tally)
        tally.report()


def test_row_17_ranks_switch_at_the_agreed_step_and_a_late_one_follows(
    node: Node, server: Server, alone: list[float]
) -> None:
    """What one rank and the server say to each other is held back while plans change."""
    tally = Tally(17, "one rank hears of plans late")
    late = (1, 1)
    with Proxy(server.port) as held, Training(node, server, url={late: held.url}) as job:
        prompt = [place for place in job.places if place != late]
        generation = job.planned()
        agreed = {generation: job.detail()["deployment"]["from_step"]}
        for attempt in range(TRIES):
            held.mode = "hold"
            notice(job, 1.1 + 0.05 * (attempt % 4))
            wait_until(lambda g=generation: min(job.generations()[p] for p in prompt) > g, RETURN_S, LOOK_S)
            job.wait_more(2)
            assert job.generations()[late] in (0, generation), "it cannot know of the new one"
            held.mode = "forward"
            generation = job.wait_for_plan("straggler", above=generation, patience_s=RETURN_S)
            agreed[generation] = job.detail()["deployment"]["from_step"]
            job.call("DELETE", "/stragglers/n", expect=204)
            generation = job.wait_for_plan("recovered", above=generation)
            agreed[generation] = job.detail()["deployment"]["from_step"]
            tally.tries += 1
        together = 0
        for number, step in agreed.items():
            begun = {p: min(s["step"] for s in job.steps_of(p) if s["generation"] == number) for p in job.places}
            assert min(begun.values()) >= step, f"generation {number}, agreed for step {step}: {begun}"
            together += {begun[p] for p in prompt} == {step}
        # A speed-up is agreed at once, for a step that may be over when it is heard of; a busy rank hears late.
        assert together >= 1
        tally.notes.append(f"{together} of {len(agreed)} plans begun at the agreed step by all who heard in time")
        finish(job, node, tally, alone, slowest=1.25)


# Many, and hostile.


def test_row_21_hundreds_of_other_ranks_come_back_at_once(
    perseus_binary: Path, node: Node, tmp_path: Path, alone: list[float]
) -> None:
    """The server is killed and started again: 300 ranks of another job and those of ours return together."""
    others = 300
    tally = Tally(21, f"{others} ranks of another job come back at once", tries=others)
    with (
        reserved_port() as port,
        contextlib.ExitStack() as servers,
        Training(node, None, url=f"http://127.0.0.1:{port}") as job,
    ):

        def serve() -> Server:
            return servers.enter_context(Server(perseus_binary, tmp_path / "server", "--min-hold", 0, port=port))

        def other_job() -> dict | None:
            status, detail = job.server.call("GET", "/api/v1/jobs/gpt")
            return detail if status == 200 else None

        def all_back() -> bool:
            return live(job) == len(job.places) and other_job()["ranks_live"] == others

        job.server = serve()
        generation = job.planned()
        flags = ["--server", f"http://127.0.0.1:{port}", "--ranks", others, "--dp", others // 2]
        with Probe(perseus_binary, *flags, "--answer-ms", 60_000, "--connect-ms", 60_000):
            wait_until(lambda: (other_job() or {"ranks_live": 0})["ranks_live"] == others, RETURN_S, LOOK_S)
            assert job.server.call("PUT", "/api/v1/jobs/gpt/profile", PROFILE, kind="text/csv")[0] == 200
            begin = len(job.times())
            job.server.kill()
            job.server = serve()
            took = wait_until(all_back, RETURN_S, LOOK_S)
            storm = job.times(begin)
            tally.notes.append(f"all back after {took:.1f} s, {usual(storm):.2f} simulated s an iteration meanwhile")
            assert job.generations() == dict.fromkeys(job.places, generation)
            notice(job, 1.2)
            job.wait_for_plan("straggler", above=generation, patience_s=RETURN_S)
            finish(job, node, tally, alone, slowest=1.2)


def test_row_22_connections_that_are_half_open_and_slow_peers(node: Node, server: Server, alone: list[float]) -> None:
    """What lies between ranks and server forgets all connections and tells nobody, while strangers hold connections
    on which they never finish a request."""
    lorises = 50
    tally = Tally(22, f"half-open connections, {lorises} slow peers", tries=1 + lorises)
    with Proxy(server.port) as network, Training(node, server, url=network.url) as job, contextlib.ExitStack() as open_:
        generation = job.planned()
        slow = [
            open_.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S))
            for _ in range(lorises)
        ]
        for peer in slow:
            peer.sendall(b"GET /api/v1/jobs HTTP/1.1\r\nX")
        network.mode = "hole"
        notice(job, 1.2)  # its plan is lost with the connections that it is sent over
        wait_until(lambda: live(job) == 0, look_s=LOOK_S)
        wait_until(lambda: job.detail()["deployment"]["generation"] > generation, look_s=LOOK_S)
        network.mode = "forward"
        job.wait_more(2)
        for peer in slow:
            assert peer.recv(100) == b"", "cut off without an answer"
        took = wait_until(lambda: live(job) == len(job.places), RETURN_S, LOOK_S)
        tally.notes.append(f"back {took:.1f} s after the slow peers were cut off")
        job.wait_for_plan("straggler", above=generation, patience_s=RETURN_S)
        finish(job, node, tally, alone, slowest=1.2)


def secret(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


STRANGERS_SAY = [
    ("GET", "", None),
    ("GET", "/plan", None),
    ("PUT", "/profile", PROFILE),
    ("POST", "/stragglers", {"id": "s", "pipeline": 0, "slowdown": 1.5, "cause": "malice"}),
    ("POST", "/ranks/0.0.0/guard", {"incarnation": 1, "sequence": 1 << 50, "generation": 1, "promised_time_s": 1,
                                    "measured_time_s": 9, "iterations": 10}),
    ("POST", "/ranks/0.0.0/leave", {"incarnation": 1, "sequence": 1 << 50}),
    ("DELETE", "", None),
]  # fmt: skip


def test_row_33_tokens_that_are_missing_wrong_or_of_another_job(
    perseus_binary: Path, node: Node, tmp_path: Path, certificate: tuple[Path, Path], alone: list[float]
) -> None:
    """Over TLS: a rank without its token trains at the baseline beside those that have theirs; strangers change
    nothing."""
    tally = Tally(33, "tokens missing, wrong, of another job")
    cert, key = certificate
    tokens = secret(tmp_path, "tokens", f"admin {ADMIN}\njob train {OURS}\njob other {OTHERS}")
    ours, others = secret(tmp_path, "ours", OURS), secret(tmp_path, "others", OTHERS)
    flags = ["--tls-cert", cert, "--tls-key", key, "--token-file", tokens]
    context = ssl.create_default_context(cafile=str(cert))
    more = {"PERSEUS_CA_FILE": str(cert), "PERSEUS_TOKEN_FILE": str(ours)}
    with (
        Server(perseus_binary, tmp_path / "server", *RULES, *flags, tls=context) as server,
        Training(node, server, url=f"https://localhost:{server.port}", more=more) as job,
    ):
        server.token = ADMIN
        job.more_of = {(1, 0): {"PERSEUS_TOKEN_FILE": str(others)}, (1, 1): {"PERSEUS_TOKEN_FILE": ""}}
        job.start()
        job.upload_profile()
        admitted = [(0, 0), (0, 1)]
        wait_until(lambda: all(job.generations()[p] > 0 for p in admitted), look_s=LOOK_S)
        job.wait_more(5)
        generation = job.detail()["deployment"]["generation"]
        assert job.generations() == {p: generation if p in admitted else 0 for p in job.places}
        for gpu in (2, 3):
            assert [c for c in node.history(gpu) if c["call"] == "lock_clock"] == [], "a clock without a plan"
        for place, why in (((1, 0), "403: the token is not for this"), ((1, 1), "401: a bearer token")):
            assert why in job.log_of(place).read_text()
        tally.tries += 2

        before = job.detail()
        for token, expected in ((None, 401), ("w" * 32, 401), (OTHERS, 403)):
            server.token = token
            for method, rest, body in STRANGERS_SAY:
                kind = "text/csv" if isinstance(body, str) else "application/json"
                job.call(method, rest, body, expect=expected, kind=kind)
                tally.tries += 1
        server.token = ADMIN
        after = job.detail()
        assert after["deployment"] == before["deployment"] and after["notices"] == [] and after["guard"] is None
        assert after["ranks_live"] == 2
        job.stop()
        tally.left_low += settle(node)
        count_delays(job, tally, alone)

        job.more_of = {}
        job.start()
        job.wait_for_plan("fastest", above=generation, patience_s=RETURN_S)
        job.wait_more(3)
        assert not any(t in str(server.log) for t in (ADMIN, OURS, OTHERS))
        finish(job, node, tally, alone)
