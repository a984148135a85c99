# SPDX-License-Identifier: Apache-2.0
"""The server's API as a process, every answer held to schema/openapi.yaml."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from openapi_spec_validator import validate as validate_openapi
from server_process import PROFILE, ROOT, Server, description, registration

JOB = "/api/v1/jobs/gpt"


@pytest.fixture
def server(perseus_binary: Path, tmp_path: Path):
    with Server(perseus_binary, tmp_path / "state") as running:
        yield running


def test_the_description_is_openapi() -> None:
    validate_openapi(description())


def test_the_page_of_the_api_is_what_the_description_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/api_reference", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_life_of_a_job(server: Server, perseus, tmp_path: Path) -> None:
    detail = server.plan_job()
    assert detail["state"] == "planned"
    assert detail["deployment"]["reason"] == "fastest"
    assert detail["deployment"]["plans"][0]["time_s"] == detail["frontier"]["t_min_s"]
    status, plan = server.poll("gpt", "0.1.0", have=0)
    assert (status, plan["from_step"], len(plan["operations"])) == (200, 0, 8)

    # What is served is a plan file that the independent checker accepts.
    status, plan_file = server.call("GET", f"{JOB}/plan?pipeline=1")
    assert status == 200
    (tmp_path / "plan.json").write_text(json.dumps(plan_file))
    (tmp_path / "p.csv").write_text(PROFILE)
    job = [
        "--profile",
        "p.csv",
        "--pp",
        2,
        "--dp",
        2,
        "--microbatches",
        4,
        "--schedule",
        "1f1b",
        "--blocking-power",
        85,
    ]
    perseus("verify", "--plan", "plan.json", *job, cwd=tmp_path)

    assert server.call("GET", f"{JOB}/profile") == (200, PROFILE)
    status, frontier = server.call("GET", f"{JOB}/frontier?points=3&range=tmax")
    assert frontier["points"][0]["target_time_s"] == frontier["t_min_s"]
    assert frontier["points"][-1]["target_time_s"] == frontier["t_max_s"]
    assert server.call("DELETE", JOB)[1]["state"] == "ended"
    assert server.poll("gpt", "0.1.0", have=plan["revision"])[1]["baseline"] is True


def test_a_straggler_and_its_end_reach_every_rank(server: Server) -> None:
    t_min = server.plan_job()["frontier"]["t_min_s"]
    ranks = ["0.0.0", "0.1.0", "1.0.0", "1.1.0"]
    with ThreadPoolExecutor(len(ranks) + 1) as pool:
        polls = [pool.submit(server.poll, "gpt", rank, 3) for rank in ranks]
        notice = {"job": "gpt", "id": "hot", "pipeline": 0, "slowdown": 1.2, "cause": "thermal", "ttl_s": 60}
        assert server.call("POST", f"{JOB}/stragglers", notice) == (201, {"id": "hot", "ttl_s": 60})
        plans = [poll.result()[1] for poll in polls]
        assert {plan["revision"] for plan in plans} == {4}
        assert all(plan["from_step"] is None for plan in plans)
        assert plans[2]["promised_time_s"] == pytest.approx(1.2 * t_min)
        polls = [pool.submit(server.poll, "gpt", rank, 4, 20 + i) for i, rank in enumerate(ranks)]
        agreed = [poll.result()[1] for poll in polls]
        assert {plan["revision"] for plan in agreed} == {5}
        assert len({plan["from_step"] for plan in agreed}) == 1
        polls = [pool.submit(server.poll, "gpt", rank, 5, 40) for rank in ranks]
        assert server.call("DELETE", f"{JOB}/stragglers/hot")[0] == 204
        assert {poll.result()[1]["reason"] for poll in polls} == {"recovered"}
    assert server.call("GET", f"{JOB}/stragglers") == (200, {"stragglers": []})
    detail = server.call("GET", JOB)[1]
    assert detail["saved_predicted"]["extrinsic_pct"] == 0


def test_measurements_guard_renewal_and_goodbye(server: Server) -> None:
    server.plan_job()
    rank = f"{JOB}/ranks/0.0.0"
    stamp = {"incarnation": 1, "sequence": 2}
    measured = stamp | {"generation": 1, "step": 12, "iteration_time_s": 0.5, "energy_j": 70.5}
    assert server.call("POST", f"{rank}/measurements", measured)[1]["applied"] is True
    assert server.call("POST", f"{rank}/measurements", measured)[1]["applied"] is False
    detail = server.call("GET", JOB)[1]
    assert detail["measured"] == {"time_s": 0.5, "energy_j": None, "ranks": 1}
    assert server.call("POST", f"{rank}/renew", {"incarnation": 1, "sequence": 3, "step": 13})[1]["revision"] == 3
    for each in ("0.0.0", "0.1.0", "1.0.0", "1.1.0"):  # all have heard of the plan
        assert server.poll("gpt", each, 3, wait_s=0)[0] == 204
    guard = {
        "incarnation": 1,
        "sequence": 4,
        "generation": 1,
        "promised_time_s": 0.4,
        "measured_time_s": 0.5,
        "iterations": 9,
    }
    assert server.call("POST", f"{rank}/guard", guard)[0] == 200
    server.wait_for("plan.deployed", reason="guard")
    detail = server.call("GET", JOB)[1]
    assert (detail["state"], detail["guard"]["rank"]) == ("guarded", "0.0.0")
    assert server.call("DELETE", f"{JOB}/guard")[0] == 204
    assert server.call("POST", f"{rank}/leave", {"incarnation": 1, "sequence": 5, "step": 14})[0] == 200
    assert server.poll("gpt", "0.0.0", 0)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/jobs/none", None, 404),
        ("GET", "/api/v1/jobs/a%2fb", None, 400),
        ("PUT", "/api/v1/jobs/gpt", "{", 400),
        ("PUT", "/api/v1/jobs/gpt", registration() | {"blocking_power_w": -1}, 400),
        ("PUT", "/api/v1/jobs/gpt", registration() | {"incarnation": 0}, 400),
        ("PUT", "/api/v1/jobs/gpt", registration(microbatches=10**6), 400),
        ("PUT", "/api/v1/jobs/gpt", registration(microbatches=10**5), 413),
        ("POST", "/api/v1/jobs/none/stragglers", {"pipeline": 0, "slowdown": 2, "cause": "x"}, 404),
        ("GET", "/api/v1/jobs/none/frontier", None, 404),
    ],
)
def test_refusals_are_described(server: Server, method: str, path: str, body: object, status: int) -> None:
    assert server.call(method, path, body)[0] == status


def test_status_shows_the_jobs(server: Server, perseus) -> None:
    url = f"http://127.0.0.1:{server.port}"
    assert perseus("status", "--server", url).stdout == "no jobs\n"
    server.plan_job()
    table = perseus("status", "--server", url).stdout
    assert "gpt  planned" in table
    assert perseus("status", "--server", url, "--json").json() == server.call("GET", "/api/v1/jobs")[1]
    server.kill()
    assert "cannot connect: Connection refused" in perseus("status", "--server", url, expect=3).stderr


def test_metrics_are_prometheus(server: Server) -> None:
    server.plan_job()
    status, text = server.call("GET", "/metrics")
    assert status == 200
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples["perseus_jobs"] == "1"
    assert samples['perseus_job_ranks_live{job="gpt"}'] == "4"
    assert float(samples['perseus_job_iteration_seconds{job="gpt",origin="predicted"}']) > 0
