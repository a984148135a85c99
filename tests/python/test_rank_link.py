# SPDX-License-Identifier: Apache-2.0
"""Ranks' links and a real server under the faults of the fault table that lie between the two: rows 1, 2, 7, 15, 17, 18, 21,
22 and 33. Each test asserts how it ends and prints tries, training steps delayed and acknowledged data lost.

A training loop of 2 ms a step runs beside the links. Delayed is a step in which the links' functions took more than 100 ms:
on a machine that does nothing else that would be their doing."""

import json
import random
import signal
import ssl
import threading
import time
from pathlib import Path

from rank_probe import DEADLINE_S, FAST, PAUSE_S, Probe, Proxy
from server_process import PROFILE, Server, check_request
from test_server_faults import ADMIN, OF_GPT, raw, token_file

JOB = "/api/v1/jobs/gpt"
EIGHT_RANKS = ["--ranks", 8, "--dp", 4]
FOUR_RANKS = ["--ranks", 4, "--dp", 2]


def show(row: int, what: str, tries: int, ranks: Probe, lost: int = 0) -> None:
    state = ranks.state()
    print(
        f"row {row} ({what}): {tries} tries, {state['steps']} steps of which {state['delayed_steps']} delayed (slowest call "
        f"{state['slowest_call_ms']:.1f} ms), {state['failures']} failures and {state['refused_answers']} answers refused, "
        f"{lost} acknowledged data lost"
    )


def eventually(ready, what: str):
    """The first true value of ready()."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / PAUSE_S)):
        if value := ready():
            return value
        pause.wait(PAUSE_S)
    raise AssertionError(f"waited in vain for {what}")


def live(server: Server) -> int:
    status, detail = server.call("GET", JOB)
    return sum(rank["live"] for rank in detail["ranks"]) if status == 200 else 0


def plan(server: Server) -> None:
    """Gives the job that the ranks registered its profile."""
    eventually(lambda: server.call("GET", JOB)[0] == 200, "the registration")
    assert server.call("PUT", f"{JOB}/profile", PROFILE, kind="text/csv")[0] == 200


def notice(server: Server, slowdown: float, pipeline: int = 0) -> None:
    body = {"id": "s", "pipeline": pipeline, "slowdown": slowdown, "cause": "test"}
    assert server.call("POST", f"{JOB}/stragglers", body)[0] in (200, 201)


def all_agreed(ranks: Probe, count: int, generation: int) -> dict[str, dict]:
    """The agreed plan of that generation of each rank."""

    def found(events: list[dict]) -> dict[str, dict] | None:
        agreed = {
            e["rank"]: e
            for e in events
            if e["event"] == "plan" and e["generation"] == generation and e["from_step"] is not None
        }
        return agreed if len(agreed) == count else None

    return ranks.wait_until(found, f"generation {generation} in {count} ranks")


def settled(server: Server, ranks: Probe, count: int) -> int:
    """The generation that is deployed and that all ranks have agreed on."""

    def found() -> int:
        generation = server.call("GET", JOB)[1]["generation"]
        agreed = {p["rank"] for p in ranks.plans() if p["generation"] == generation and p["from_step"] is not None}
        return generation if len(agreed) == count else 0

    return eventually(found, f"agreement of {count} ranks")


def no_refusals(ranks: Probe) -> None:
    assert ranks.refusals() == []


def test_a_server_that_is_absent_killed_and_started_again(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 1: ranks are there before the server; then it is killed at random moments while plans change."""
    moments = random.Random(1)
    tries = 6
    with Proxy(1) as nobody, Probe(perseus_binary, "--server", nobody.url, *EIGHT_RANKS, *FAST) as ranks:
        ranks.say("loop")
        ranks.wait_state(lambda s: s["failures"] >= 8 and s["steps"] > 20)
        generation, noticed = 1, 0
        for attempt in range(tries + 1):
            with Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server:
                nobody.target = server.port
                if attempt == 0:
                    plan(server)
                eventually(lambda s=server: live(s) == 8, "all ranks")
                planned = lambda s=server: (d := s.call("GET", JOB)[1])["state"] == "planned" and d  # noqa: E731
                detail = eventually(planned, "the plan")
                assert detail["profile_sha256"] is not None
                assert detail["stragglers"] == noticed  # what was acknowledged is there
                assert detail["deployment"]["generation"] >= generation
                generation = settled(server, ranks, 8)
                if attempt == tries:
                    break
                killer = threading.Timer(moments.uniform(0, 0.5), server.kill)
                killer.start()
                try:
                    for change in range(1000):
                        notice(server, 1.1 + 0.05 * (change % 6))
                        noticed = 1
                except (OSError, AssertionError):
                    pass  # it is gone
                killer.join()
                steps = ranks.state()["steps"]
                ranks.wait_state(lambda s, before=steps: s["steps"] > before + 20)  # training goes on without it
        no_refusals(ranks)
        show(1, "server absent, killed and restarted", tries, ranks)
        ranks.stop()


def test_a_server_that_hangs_drips_or_talks_garbage(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 2."""
    with (
        Server(perseus_binary, tmp_path / "state", "--min-hold", 0, "--rank-ttl", 3) as server,
        Proxy(server.port) as network,
        Probe(perseus_binary, "--server", network.url, *FOUR_RANKS, *FAST, "--quiet-ms", 0) as ranks,
    ):
        plan(server)
        all_agreed(ranks, 4, 1)
        ranks.say("loop")
        slowdown, tries = 1.1, 0
        for fault in ("hang", "garbage", "drip"):
            before = ranks.state()
            logged = len(ranks.logged())
            if fault == "hang":
                server.process.send_signal(signal.SIGSTOP)
            else:
                network.mode = fault
            counter = "refused_answers" if fault == "garbage" else "failures"
            ranks.wait_state(lambda s, b=before, c=counter: s[c] >= b[c] + 8 and s["steps"] > b["steps"] + 50)
            server.process.send_signal(signal.SIGCONT)
            network.mode = "forward"
            generation = eventually(lambda: server.call("GET", JOB)[1]["generation"], "the server")
            notice(server, slowdown)
            all_agreed(ranks, 4, generation + 1)
            slowdown += 0.1
            tries += 4
            ranks.wait_until(lambda _, n=logged: len(ranks.logged()) >= n + 8, "lost and back of each rank")
        no_refusals(ranks)
        assert server.call("GET", JOB)[1]["state"] == "planned"
        show(2, "hang, garbage, drip", tries, ranks)
        ranks.stop()


def test_a_network_that_is_cut_and_clocks_that_are_an_hour_off(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 7. The cut lasts until every rank has noticed several times; what changed meanwhile arrives afterwards."""
    with (
        Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server,
        Proxy(server.port) as network,
        Probe(perseus_binary, "--server", network.url, *FOUR_RANKS, *FAST) as ranks,
    ):
        network.mode = "skew"
        plan(server)
        all_agreed(ranks, 4, 1)  # a Date of another day changes nothing
        ranks.say("loop")
        network.mode = "hole"
        cut = ranks.wait_state(lambda s: s["failures"] >= 20 and s["steps"] > 100)
        notice(server, 1.2)
        eventually(lambda: server.call("GET", JOB)[1]["generation"] == 2, "a plan during the cut")
        assert len(ranks.plans()) == 8  # prepared and agreed of the first generation, and nothing since
        network.mode = "skew"
        all_agreed(ranks, 4, 2)
        # One line when it was lost, one when it was back, and nothing for each of the many tries in between.
        for rank in ("0.0.0", "0.1.0", "1.0.0", "1.1.0"):
            lines = [e["line"] for e in ranks.events if e["event"] == "log" and e["rank"] == rank]
            told = [line for line in lines if "is not registered yet" not in line]
            assert len(told) <= 2 and "gives no usable answer" in told[0], lines
        no_refusals(ranks)
        show(7, f"network cut for {cut['failures']} failed attempts, clocks off", 4, ranks)
        ranks.stop()


def test_a_rank_whose_own_clock_was_set_back_an_hour(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 7: a process takes the place of one whose messages were numbered by a clock that was ahead."""
    with Server(perseus_binary, tmp_path / "state") as server:
        fence = server.plan_job()["schedule_sha256"]
        ahead = int(time.time() * 1000) + 3_600_000
        server.hello("gpt", "1.1.0", fence, sequence=ahead)
        flags = ["--rank", "1.1.0", "--dp", 2, *FAST]
        with Probe(perseus_binary, "--server", f"http://127.0.0.1:{server.port}", *flags) as rank:
            rank.wait_for("plan", rank="1.1.0", generation=1)
            rank.say("measure", 1, 20, 0.4)
            measured = eventually(lambda: server.call("GET", JOB)[1]["measured"], "a measurement that counts")
            assert measured["ranks"] == 1
            show(7, "own clock set back", 1, rank)
            rank.stop()


def test_an_elastic_restart_with_ranks_permuted_and_other_microbatches(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 15: the new incarnation comes while the old one still runs, its rank 0.0.0 last."""
    with Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server:
        url = f"http://127.0.0.1:{server.port}"
        old_flags = ["--server", url, *FOUR_RANKS, *FAST]
        new_flags = [*old_flags, "--incarnation", 2, "--microbatches", 8]
        with Probe(perseus_binary, *old_flags) as old:
            plan(server)
            old.say("gpu", "GPU-a", "1410,1200")
            all_agreed(old, 4, 1)
            old.say("loop")
            eventually(lambda: server.call("GET", JOB)[1]["ranks"][0]["gpu_uuid"] == "GPU-a", "the GPU's name")
            with (
                Probe(perseus_binary, *new_flags, "--rank", "0.1.0", "--ranks", 3) as others,
                Probe(perseus_binary, *new_flags, "--ranks", 1) as first,
            ):
                # The GPU of rank 0.0.0 is that of another rank now.
                others.say("gpu", "GPU-a", "1410,1200")
                plans = [*others.wait_until(three_agreed, "plans of incarnation 2")]
                first.wait_for("plan", rank="0.0.0", operations=16)
                assert {len(p["clocks_mhz"]) for p in plans} == {16}  # eight forwards and eight backwards
                (generation,) = {p["generation"] for p in plans}
                assert generation > 1
                old.wait_until(
                    lambda e: len([x for x in e if x["event"] == "refused"]) == 4, "the end of incarnation 1"
                )
                for refused in old.refusals():
                    assert refused["why"] in (
                        "409: incarnation 1 is not that of job gpt, which is in incarnation 2",
                        "409: incarnation 1 of job gpt is over; it is in incarnation 2",
                        "409: job gpt is in incarnation 2 now",
                    )
                assert {p["generation"] for p in old.plans()} == {1}
                by_rank = {r["rank"]: r for r in server.call("GET", JOB)[1]["ranks"]}
                assert by_rank["0.1.0"]["gpu_uuid"] == "GPU-a" and by_rank["0.0.0"]["gpu_uuid"] == ""
                # What the old one still says has no effect.
                old.say("measure", generation, 10, 99)
                others.say("measure", generation, 10, 0.5)
                measured = eventually(lambda: server.call("GET", JOB)[1]["measured"], "a measurement")
                assert measured["time_s"] == 0.5
                no_refusals(others)
                no_refusals(first)
                show(15, "new incarnation, ranks permuted", 1, old)


def three_agreed(events: list[dict]) -> list[dict] | None:
    agreed = {e["rank"]: e for e in events if e["event"] == "plan" and e["operations"] and e["from_step"] is not None}
    return list(agreed.values()) if len(agreed) == 3 else None


def test_ranks_switch_at_the_same_step_and_a_late_one_follows(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 17: one rank is stopped while generations change."""
    tries = 4
    with Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server:
        flags = ["--server", f"http://127.0.0.1:{server.port}", "--dp", 2, *FAST]
        with (
            Probe(perseus_binary, *flags, "--ranks", 3) as prompt,
            Probe(perseus_binary, *flags, "--rank", "1.1.0") as late,
        ):
            plan(server)
            all_agreed(prompt, 3, 1)
            all_agreed(late, 1, 1)
            prompt.say("loop")
            for attempt in range(tries):
                late.process.send_signal(signal.SIGSTOP)
                notice(server, 1.1 + 0.1 * attempt)
                generation = attempt + 2
                agreed = all_agreed(prompt, 3, generation)  # after the deadline for those who do not confirm
                assert not [p for p in late.plans() if p["generation"] == generation]
                late.process.send_signal(signal.SIGCONT)
                followed = all_agreed(late, 1, generation)
                assert {p["from_step"] for p in (agreed | followed).values()} == {followed["1.1.0"]["from_step"]}
            # Over all of it: one step for each generation, whoever heard of it and when.
            steps = {}
            for p in prompt.plans() + late.plans():
                if p["from_step"] is not None:
                    assert steps.setdefault(p["generation"], p["from_step"]) == p["from_step"]
            assert len(steps) == tries + 1
            show(17, "one rank stopped while plans change", tries, prompt)


def test_messages_that_are_repeated_late_reordered_or_cut_off(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 18: everything that the ranks say is said to the server again, in any order, whole and in parts."""
    chaos = random.Random(18)
    measured = [0.3 + 0.01 * i for i in range(12)]
    with (
        Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server,
        Proxy(server.port) as network,
        Probe(perseus_binary, "--server", network.url, *FOUR_RANKS, *FAST) as ranks,
    ):
        plan(server)
        all_agreed(ranks, 4, 1)
        tries = 0
        for step, time_s in enumerate(measured, 10):
            ranks.say("measure", 1, step, time_s)
            said = [r for r in network.requests if b"/leave" not in r and not r.startswith(b"GET")]
            for request in chaos.sample(said, min(8, len(said))):
                whole = chaos.random() < 0.7
                raw(server.port, request if whole else request[: chaos.randrange(1, len(request))])
                tries += 1

        def all_measured() -> dict | None:
            done = sum(b"/measurements" in r for r in network.requests)
            return server.call("GET", JOB)[1]["measured"] if done == 4 * len(measured) else None

        mean = eventually(all_measured, "all measurements")["time_s"]
        assert abs(mean - sum(measured) / len(measured)) < 1e-9  # each counted once
        for request in [r for r in network.requests if not r.startswith(b"GET")]:  # and all of it once more
            raw(server.port, request)
            tries += 1
        detail = server.call("GET", JOB)[1]
        assert abs(detail["measured"]["time_s"] - mean) < 1e-9
        assert detail["state"] == "planned" and live(server) == 4
        assert "perseus_repeated_messages_total 0" not in server.call("GET", "/metrics")[1]
        notice(server, 1.2)
        all_agreed(ranks, 4, 2)
        no_refusals(ranks)
        show(18, "messages repeated, late, out of order, cut off", tries, ranks)
        ranks.stop()


def test_hundreds_of_ranks_come_back_at_once(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 21, with 300 links; bench/server_load.py measures 10,000."""
    count = 300
    with Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server:
        port = server.port
        flags = ["--server", f"http://127.0.0.1:{port}", "--ranks", count, "--dp", count // 2, "--answer-ms", 60_000]
        with Probe(perseus_binary, *flags, "--connect-ms", 60_000) as ranks:
            plan(server)
            all_agreed(ranks, count, 1)
            ranks.say("loop")
            ranks.wait_state(lambda s: s["steps"] > 20)
            server.kill()
            with Server(perseus_binary, tmp_path / "state", "--min-hold", 0, port=port) as again:
                begun = time.monotonic()
                eventually(lambda: live(again) == count, "all ranks")
                took = time.monotonic() - begun
                notice(again, 1.2)
                all_agreed(ranks, count, settled(again, ranks, count))
                no_refusals(ranks)
                # The same plan is no news, however often a rank comes back.
                assert max(len([p for p in ranks.plans(r) if p["generation"] == 1]) for r in ("0.0.0", "9.1.0")) <= 2
                show(21, f"{count} ranks back after {took:.1f} s", count, ranks)


def test_connections_that_are_half_open(perseus_binary: Path, tmp_path: Path) -> None:
    """Row 22: what lies between the two forgets all connections and tells nobody; new ones work."""
    tries = 3
    with (
        Server(perseus_binary, tmp_path / "state", "--min-hold", 0, "--rank-ttl", 3) as server,
        Proxy(server.port) as network,
        # A poll that would wait for a minute and a half by itself: renewals must notice.
        Probe(perseus_binary, "--server", network.url, *FOUR_RANKS, *FAST, "--grace-ms", 90_000) as ranks,
    ):
        plan(server)
        all_agreed(ranks, 4, 1)
        ranks.say("loop")
        for attempt in range(tries):
            failures = ranks.state()["failures"]
            network.mode = "hole"
            ranks.wait_state(lambda s, f=failures: s["failures"] >= f + 4)
            network.mode = "forward"
            notice(server, 1.1 + 0.1 * attempt)
            settled(server, ranks, 4)
        no_refusals(ranks)
        show(22, "half-open connections", tries, ranks)
        ranks.stop()


def test_tokens_that_are_missing_stolen_or_of_another_job_and_certificates(
    perseus_binary: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """Row 33."""
    cert, key = certificate
    (tmp_path / "server").mkdir()
    tls = ["--tls-cert", cert, "--tls-key", key, "--token-file", token_file(tmp_path / "server")]
    context = ssl.create_default_context(cafile=str(cert))
    token = tmp_path / "token"
    token.write_text(OF_GPT + "\n")
    token.chmod(0o600)
    with Server(perseus_binary, tmp_path / "state", *tls, tls=context) as server:
        server.token = ADMIN
        url = f"https://localhost:{server.port}"
        flags = ["--ca-file", cert, "--token-file", token, *FOUR_RANKS, *FAST]
        with Probe(perseus_binary, "--server", url, *flags) as ranks:
            plan(server)
            all_agreed(ranks, 4, 1)
            no_refusals(ranks)
            # A token that is withdrawn is refused; the one that takes its place is read from the file.
            ranks.say("loop")
            outcomes = {}
            for name, more, event in [
                ("no token", ["--ca-file", cert], "401: a bearer token that this server knows is needed"),
                ("other job", [*flags, "--job", "bert"], "403: the token is not for this"),
            ]:
                with Probe(perseus_binary, "--server", url, *FAST, *more) as stranger:
                    outcomes[name] = stranger.wait_for("refused")["why"]
                    assert outcomes[name] == event and stranger.plans() == []
            assert server.wait_for("request.refused", reason="no token")
            with Probe(perseus_binary, "--server", url, "--token-file", token, *FAST) as stranger:
                line = stranger.wait_for("log")["line"]
                assert "the server's certificate does not hold: self-signed certificate" in line
            with Proxy(server.port, "127.0.0.2") as elsewhere:
                other_name = f"https://127.0.0.2:{elsewhere.port}"
                with Probe(perseus_binary, "--server", other_name, *flags) as stranger:
                    assert "certificate does not hold: IP address mismatch" in stranger.wait_for("log")["line"]
                plain = f"http://127.0.0.1:{server.port}"
                with Probe(perseus_binary, "--server", plain, *FOUR_RANKS, *FAST) as stranger:
                    stranger.wait_state(lambda s: s["failures"] + s["refused_answers"] >= 4)
                    assert stranger.plans() == []
            token.chmod(0o644)
            with Probe(perseus_binary, "--server", url, *flags) as stranger:
                assert stranger.process.wait(timeout=DEADLINE_S) == 3
                assert stranger.plans() == []
            show(33, "token missing, of another job, readable by others; certificate or name wrong", 6, ranks)
            assert not any(t in json.dumps(server.log + ranks.events) for t in (ADMIN, OF_GPT))
            ranks.stop()
            assert live(server) == 0


def test_every_message_is_as_the_description_says(perseus_binary: Path, tmp_path: Path) -> None:
    """A job that is profiled while it trains: what its ranks say is held to schema/openapi.yaml, and taken."""
    with (
        Server(perseus_binary, tmp_path / "state") as server,
        Proxy(server.port) as network,
        Probe(
            *(perseus_binary, "--server", network.url, *FOUR_RANKS, *FAST, "--online", "--blocking-power", -1),
            *("--orders", "--schedule", "interleaved-1f1b", "--virtual-stages", 2),
        ) as ranks,
    ):
        ranks.say("gpus", "1410,1200,990")
        sweep = ranks.wait_for("plan", reason="profile")
        assert sweep["windows"] > 0 and sweep["operations"] == 0 and sweep["promised_time_s"] is None
        ranks.say("window", sweep["generation"], 0, 5)
        ranks.say("measure", sweep["generation"], 9, 0.1)
        ranks.say("guard", sweep["generation"], 0.1, 0.2)
        eventually(lambda: sum(b"/guard" in r for r in network.requests) == 4, "all reports")
        ranks.stop()
        routes = set()
        for request in network.requests:
            head, body = request.split(b"\r\n\r\n", 1)
            method, path, _ = head.decode().split("\r\n")[0].split(" ")
            if method != "GET":
                check_request(method, path, body)
                routes.add(path.rsplit("/", 1)[-1])
        assert routes - {"renew"} == {"gpt", "ranks", "windows", "measurements", "guard", "leave"}
        assert ranks.state()["dropped_reports"] == 0 and ranks.state()["refused_answers"] == 0
        no_refusals(ranks)


def test_a_forked_child_keeps_nothing_alive(perseus_binary: Path, tmp_path: Path) -> None:
    """A data loader's child has none of the link's sockets and can use and destroy the link; the parent's goes on."""
    with Server(perseus_binary, tmp_path / "state", "--min-hold", 0) as server:
        flags = ["--server", f"http://127.0.0.1:{server.port}", *FOUR_RANKS, *FAST]
        with Probe(perseus_binary, *flags) as ranks:
            plan(server)
            all_agreed(ranks, 4, 1)
            ranks.say("fork")
            assert ranks.wait_for("forked")["child"] == "0 sockets"
            notice(server, 1.2)
            all_agreed(ranks, 4, 2)
            ranks.stop()
            assert live(server) == 0
