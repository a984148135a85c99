# SPDX-License-Identifier: Apache-2.0
"""The command line, driven as a user drives it: outputs, refusals, exit codes, round trips between commands."""

import csv
import io
import json

import pytest

SMALL = [
    "--schedule", "1f1b", "--pp", "4", "--microbatches", "6", "--tp", "2", "--blocking-power", "85",
]  # fmt: skip


@pytest.fixture(scope="session")
def profile(perseus_binary, tmp_path_factory):
    """A modelled profile of four stages at 12 clocks."""
    import subprocess

    path = tmp_path_factory.mktemp("profile") / "p.csv"
    command = [str(perseus_binary), "synth", "--model", "gpt3-13b", "--gpu-model", "a100-sxm-80g", "--pp", "4"]
    subprocess.run([*command, "--tp", "2", "--clocks", "12", "-o", str(path)], check=True)
    return path


@pytest.fixture
def job(profile):
    return ["--profile", profile, *SMALL]


def test_frontier_json_is_the_contract(perseus, job):
    done = perseus("frontier", *job, "--points", 7, "--json")
    frontier = done.json()
    assert done.stderr == ""
    assert {"t_min_s", "t_star_s", "t_max_s", "all_max", "points", "baselines", "solver"} <= frontier.keys()
    assert frontier["t_min_s"] == frontier["all_max"]["time_s"]
    assert frontier["t_min_s"] <= frontier["t_star_s"] <= frontier["t_max_s"]
    points = frontier["points"]
    assert len(points) == 7
    assert points[0]["target_time_s"] == frontier["t_min_s"]
    assert points[-1]["target_time_s"] == frontier["t_star_s"]
    for p in points:
        assert p.keys() >= {"target_time_s", "time_s", "energy_j", "lower_bound_j", "gap", "marginal_w"}
        assert p["time_s"] <= p["target_time_s"]
        assert p["energy_j"] >= p["lower_bound_j"]
        assert p["gap"] == pytest.approx(p["energy_j"] / p["lower_bound_j"] - 1, abs=1e-12)
    bounds = [p["lower_bound_j"] for p in points]
    assert bounds == sorted(bounds, reverse=True), "slower targets need no more energy up to T*"
    assert frontier["all_max"]["energy_j"] > points[0]["energy_j"]
    assert [b["name"] for b in frontier["baselines"]] and frontier["solver"]["breakpoints"] > 0


def test_frontier_all_gives_every_breakpoint(perseus, job):
    frontier = perseus("frontier", *job, "--all", "--range", "tmax", "--json").json()
    assert len(frontier["points"]) >= frontier["solver"]["breakpoints"] > 10
    times = [p["target_time_s"] for p in frontier["points"]]
    marginals = [p["marginal_w"] for p in frontier["points"]]
    assert times == sorted(times) and marginals == sorted(marginals, reverse=True)
    assert all(p.keys() == {"target_time_s", "lower_bound_j", "marginal_w"} for p in frontier["points"])


def test_frontier_table_reads_well(perseus, job):
    text = perseus("frontier", *job, "--points", 3).stdout
    assert "T_min" in text and "all-max" in text and "saved" in text and "predicted" in text


def test_data_parallel_changes_job_totals_only(perseus, job):
    one = perseus("frontier", *job, "--points", 2, "--json").json()
    many = perseus("frontier", *job, "--points", 2, "--dp", 4, "--json").json()
    assert many["points"][0]["energy_j"] == one["points"][0]["energy_j"]
    assert many["points"][0]["job_energy_j"] == pytest.approx(4 * one["points"][0]["energy_j"])


@pytest.mark.parametrize(
    "question",
    [
        [], ["--slowdown", 3], ["--min-energy"], ["--straggler", 1.15], ["--straggler", 3], ["--sync-time", 1e3],
        ["--polish", 0.1],
    ],
    ids=str,
)  # fmt: skip
def test_every_plan_verifies(perseus, job, tmp_path, question):
    plan = tmp_path / "plan.json"
    summary = perseus("plan", *job, *question, "-o", plan, "--json").json()
    verdict = perseus("verify", "--plan", plan, *job, "--json").json()
    assert verdict["holds"] is True
    assert all(check["holds"] for check in verdict["checks"])
    assert summary["time_s"] <= summary["target_time_s"]


def test_t_min_as_printed_is_accepted_and_less_is_refused(perseus, job):
    t_min = perseus("frontier", *job, "--points", 2, "--json").json()["t_min_s"]
    plan = perseus("plan", *job, "--target-time", repr(t_min)).json()
    assert plan["time_s"] <= t_min
    refused = perseus("plan", *job, "--target-time", repr(t_min * (1 - 1e-12)), expect=1)
    assert refused.stdout == "" and f"T_min = {t_min!r} s" in refused.stderr


@pytest.mark.parametrize("member", ["time_s", "energy_j", "lower_bound_j", "target_time_s"])
def test_a_false_claim_is_found(perseus, job, tmp_path, member):
    plan = perseus("plan", *job).json()
    plan[member] *= 0.999
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    refused = perseus("verify", "--plan", path, *job, expect=1)
    assert "NO" in refused.stdout and str(path) in refused.stderr


def test_a_plan_of_another_schedule_is_refused(perseus, job, tmp_path):
    path = tmp_path / "plan.json"
    perseus("plan", *job, "-o", path)
    other = [x if x != "6" else "7" for x in map(str, job)]
    refused = perseus("verify", "--plan", path, *other, expect=1)
    assert refused.stdout == ""


def test_a_stored_frontier_plans_without_the_inputs(perseus, job, tmp_path):
    perseus("frontier", *job, "--range", "tmax", "--points", 3, "--out", tmp_path / "f")
    stored = tmp_path / "f" / "frontier.perseus"
    for question in ([], ["--slowdown", "2"], ["--straggler", "1.2"]):
        assert perseus("plan", "--frontier", stored, *question).json() == perseus("plan", *job, *question).json()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "f" / "points.csv").read_text())))
    assert len(rows) == 3 and {"target_time_s", "energy_j", "lower_bound_j"} <= rows[0].keys()
    assert json.loads((tmp_path / "f" / "frontier.json").read_text())["points"]


def test_a_frontier_to_t_star_refuses_what_lies_beyond(perseus, job, tmp_path):
    perseus("frontier", *job, "--points", 2, "--out", tmp_path)
    refused = perseus("plan", "--frontier", tmp_path / "frontier.perseus", "--straggler", 2, expect=1)
    assert "--range tmax" in refused.stderr and refused.stdout == ""


def test_the_proof_may_live_in_its_own_file(perseus, job, tmp_path):
    plan, proof = tmp_path / "plan.json", tmp_path / "proof.json"
    perseus("plan", *job, "-o", plan, "--certificate", proof)
    assert json.loads(plan.read_text())["certificate"] is None
    assert perseus("verify", "--plan", plan, "--certificate", proof, *job, "--json").json()["holds"] is True
    perseus("verify", "--plan", plan, *job, expect=1)


def test_zeus_and_csv_plans(perseus, job):
    zeus = perseus("plan", *job, "--format", "zeus").stdout
    assert zeus.startswith("[\n[('forward', ") and "# Iteration" in zeus
    rows = list(csv.DictReader(io.StringIO(perseus("plan", *job, "--format", "csv").stdout)))
    assert len(rows) == 48 and rows[0]["kind"] == "F"


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved-1f1b", "looped-bfs", "zbv", "dualpipev"])
def test_schedules_print_and_come_back(perseus, tmp_path, schedule):
    virtual = ["--virtual-stages", 2] if schedule in ("interleaved-1f1b", "looped-bfs") else []
    shape = ["--schedule", schedule, "--pp", 4, "--microbatches", 8, *virtual]
    assert "rank 3" in perseus("schedule", *shape).stdout
    cells = perseus("schedule", *shape, "--format", "csv").stdout
    rows = perseus("schedule", *shape, "--json").json()["ranks"]
    assert [line.split(",") for line in cells.splitlines()] == rows


def test_a_schedule_file_plans_like_its_name(perseus, job, tmp_path):
    path = tmp_path / "order.csv"
    path.write_text(perseus("schedule", "--schedule", "1f1b", "--pp", 4, "--microbatches", 6, "--format", "csv").stdout)
    by_name = perseus("frontier", *job, "--points", 3, "--json").json()
    at = job.index("--schedule")
    by_file = perseus("frontier", *job[:at], "--schedule-file", path, *job[at + 2 :], "--points", 3, "--json").json()
    assert by_file["points"] == by_name["points"]


def test_a_schedule_file_takes_no_group_size(perseus, job, tmp_path):
    path = tmp_path / "order.csv"
    path.write_text(perseus("schedule", "--schedule", "1f1b", "--pp", 4, "--microbatches", 6, "--format", "csv").stdout)
    at = job.index("--schedule")
    refused = perseus("plan", *job[:at], "--schedule-file", path, *job[at + 2 :], "--group-size", 2, expect=2)
    assert "--group-size: says how a schedule is made" in refused.stderr and refused.stdout == ""


def test_a_dash_is_standard_output(perseus, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert perseus("plan", *job, "-o", "-").stdout == perseus("plan", *job).stdout
    synth = ["synth", "--model", "gpt3-13b", "--gpu-model", "a100-sxm-80g", "--pp", 4]
    assert perseus(*synth, "-o", "-").stdout == perseus(*synth).stdout
    assert not (tmp_path / "-").exists()


def test_job_file_and_flags_agree(perseus, job, profile, tmp_path):
    yaml = tmp_path / "job.yaml"
    yaml.write_text(
        f"profile: {profile}\npipeline: {{schedule: 1f1b, microbatches: 6}}\n"
        "parallel: {pipeline: 4, tensor: 2}\nblocking_power_w: 85\n"
    )
    assert perseus("plan", "--job", yaml).json() == perseus("plan", *job).json()
    assert perseus("plan", "--job", yaml, "--tp", 1).json()["energy_j"] < perseus("plan", *job).json()["energy_j"]
    yaml.write_text(yaml.read_text() + "polnts: 3\n")
    refused = perseus("plan", "--job", yaml, expect=1)
    assert f"{yaml}:5:1" in refused.stderr and "polnts" in refused.stderr


def test_inserted_fixed_work_lengthens_the_iteration(perseus, job, profile, tmp_path):
    with_load = tmp_path / "load.csv"
    header, *rows = profile.read_text().splitlines()
    names = header.split(",")
    load = {"stage": "0", "instruction": "load", "frequency": "1410", "time": "0.05", "energy": "4.5"}
    with_load.write_text("\n".join([header, *rows, ",".join(load.get(n, "") for n in names)]) + "\n")
    at = job.index("--profile")
    changed = [*job[:at], "--profile", with_load, *job[at + 2 :]]
    plain = perseus("frontier", *job, "--points", 2, "--json").json()
    loaded = perseus("frontier", *changed, "--insert", "load@0:before-forward", "--points", 2, "--json").json()
    assert loaded["t_min_s"] > plain["t_min_s"]


def test_a_profile_that_states_its_scatter_is_fitted(perseus, job, tmp_path):
    noisy = tmp_path / "noisy.csv"
    perseus(
        "synth", "--model", "gpt3-13b", "--gpu-model", "a100-sxm-80g", "--pp", 4, "--tp", 2, "--clocks", 12,
        "--noise-time", 1, "--noise-energy", 2, "--samples", 5, "-o", noisy,
    )  # fmt: skip
    at = job.index("--profile")
    measured = [*job[:at], "--profile", noisy, *job[at + 2 :]]
    table = perseus("frontier", *measured, "--points", 2).stdout
    assert "fit convex" in table and "Measured values against the fit" in table
    plan = tmp_path / "plan.json"
    perseus("plan", *measured, "-o", plan)
    assert json.loads(plan.read_text())["fit"] == "convex"
    assert perseus("verify", "--plan", plan, *measured, "--json").json()["holds"] is True
    refused = perseus("verify", "--plan", plan, *measured, "--fit", "none", expect=1)
    assert "made with convex" in refused.stderr
    assert perseus("plan", *measured, "--fit", "none").json()["fit"] == "none"
    assert "neither none nor convex" in perseus("plan", *measured, "--fit", "spline", expect=2).stderr


def test_report_plots_and_trace(perseus, job, tmp_path):
    perseus(
        "report", *job, "-o", tmp_path / "r.html", "--svg", tmp_path / "svg", "--png", tmp_path / "png",
        "--trace", tmp_path / "t.json", "--points", 5,
    )  # fmt: skip
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html>")
    assert (tmp_path / "svg" / "timeline.svg").read_text().startswith("<")
    assert (tmp_path / "png" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]


def test_exit_codes(perseus, job, tmp_path):
    assert perseus("--version").stdout.startswith("perseus ")
    assert "Example:" in perseus("plan", "--help").stdout
    perseus(expect=2)
    perseus("frontier", "--no-such-flag", expect=2)
    unknown = perseus("frobnicate", expect=2)
    assert "perseus: error: unknown command 'frobnicate'; commands: frontier plan" in unknown.stderr
    perseus("plan", *job, "--min-energy", "--slowdown", 1, expect=2)
    missing = perseus("frontier", *SMALL, expect=2)
    assert "--profile" in missing.stderr and missing.stdout == ""
    absent = perseus("frontier", "--profile", tmp_path / "absent.csv", *SMALL, expect=3)
    assert "absent.csv" in absent.stderr and absent.stdout == ""
    perseus("plan", *job, "-o", tmp_path / "no" / "such" / "folder.json", expect=3)
    no_power = perseus("frontier", *job[:-2], expect=2)
    assert "--blocking-power" in no_power.stderr


def test_refused_profiles_name_file_line_and_value(perseus, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("stage,instruction,frequency,time,energy\n0,forward,1410,-3,5\n")
    refused = perseus("frontier", "--profile", bad, *SMALL, expect=1)
    assert f"{bad}:2" in refused.stderr and "-3" in refused.stderr and refused.stdout == ""


def test_output_to_a_full_device_is_an_error(perseus_binary, job):
    import subprocess

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(perseus_binary), "plan", *map(str, job)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3 and "standard output" in done.stderr
