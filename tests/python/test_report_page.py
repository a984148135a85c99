# SPDX-License-Identifier: Apache-2.0
"""The report's page in a real browser, and its other files.

What is tested is made by `report_sample` (tests/report_sample), which is built beside the binary, and by `perseus
report`. Chromium is CHROMIUM_BIN or found on PATH; nothing is downloaded.
"""

import json
import math
import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_BIN = Path(os.environ.get("PERSEUS_BIN", ROOT / "build/dev/bin/perseus")).resolve().with_name("report_sample")
CHROMIUM = os.environ.get("CHROMIUM_BIN") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


def make_sample(folder: Path, ranks: int, microbatches: int, points: int) -> Path:
    assert SAMPLE_BIN.is_file(), f"no {SAMPLE_BIN}: build a preset with its tests"
    subprocess.run([SAMPLE_BIN, str(ranks), str(microbatches), str(points), folder], check=True)
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    return make_sample(tmp_path_factory.mktemp("sample"), 4, 12, 10)


@pytest.fixture(scope="session")
def browser():
    assert CHROMIUM, "no chromium on PATH, and CHROMIUM_BIN is not set"
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """Opens a file and fails the test if the page logs an error or asks for anything but itself."""
    complaints = []
    pages = []

    def open_file(path: Path, viewport=None, scheme: str = "light"):
        page = browser.new_page(viewport=viewport or DESKTOP, color_scheme=scheme)
        url = path.as_uri()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(f"request {r.url}") if r.url.split("#")[0] != url else None)
        page.goto(url)
        page.wait_for_function("window.perseusPage !== undefined")
        pages.append(page)
        return page

    yield open_file
    for page in pages:
        page.close()
    assert complaints == []


def embedded(page) -> dict:
    return json.loads(page.locator("#report-data").text_content())


def number(text: str) -> float:
    """The first number of a shown text."""
    match = re.search(r"[+\u2212-]?\d+(?:\.\d+)?", text)
    assert match, text
    return float(match[0].replace("\u2212", "-"))


def readout(page) -> dict:
    """name -> first number of each figure of the chosen point."""
    boxes = page.locator("#readout > div").all()
    return {box.locator("dt").inner_text(): number(box.locator("dd").inner_text()) for box in boxes}


def set_slider(page, selector: str, value: int) -> None:
    page.locator(selector).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def test_opens_offline_without_complaint(open_page, sample):
    page = open_page(sample / "report.html")
    assert page.locator("h1").inner_text() == "Made-up pipeline"
    assert page.title() == "Made-up pipeline · Perseus"
    assert page.locator("#frontier svg").count() == 1


def test_headline_equals_the_data(open_page, sample):
    page = open_page(sample / "report.html")
    data = embedded(page)
    all_max = data["baselines"][0]
    within = [p for p in data["points"] if p["time_s"] <= all_max["time_s"]]
    best = min(within, key=lambda p: p["energy_j"]) if within else data["points"][0]
    figures = [number(t) for t in page.locator("#headline .figure").all_inner_texts()]
    assert figures[0] == round(100 * (1 - best["energy_j"] / all_max["energy_j"]), 1)
    assert figures[1:] == [round(data[k], 3) for k in ("t_min_s", "t_star_s", "t_max_s")]
    assert page.locator("#headline .tag").all_inner_texts() == ["predicted"] * 4


def test_slider_shows_the_chosen_point(open_page, sample):
    page = open_page(sample / "report.html")
    data = embedded(page)
    for stop in (0, 4, len(data["points"]) - 1):
        set_slider(page, "#point", stop)
        point = data["points"][stop]
        shown = readout(page)
        assert shown["Iteration time"] == round(point["time_s"], 3)
        assert shown["Energy"] == pytest.approx(point["energy_j"] / 1000, abs=0.006)
        assert shown["Above the bound"] == round(100 * point["gap"], 3)
        assert page.evaluate("perseusPage.timeline.panels[1].timing.makespan") == pytest.approx(
            point["time_s"], rel=1e-12
        )


def test_slider_follows_the_keyboard(open_page, sample):
    page = open_page(sample / "report.html")
    page.locator("#point").focus()
    page.keyboard.press("Home")
    before = readout(page)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("perseusPage.stop") == 1
    assert readout(page)["Energy"] < before["Energy"]
    page.keyboard.press("End")
    assert page.evaluate("perseusPage.stop") == len(embedded(page)["points"]) - 1


def test_frontier_hover_shows_the_point(open_page, sample):
    page = open_page(sample / "report.html")
    data = embedded(page)
    index = 6
    dot = page.locator("#frontier .frontier-dot").nth(index)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip")
    assert tip.locator("strong").inner_text() == f"Point {index + 1} of {len(data['points'])}"
    rows = {r.locator("td").nth(0).inner_text(): r.locator("td").nth(1).inner_text() for r in tip.locator("tr").all()}
    point, all_max = data["points"][index], data["baselines"][0]
    assert number(rows["Time"]) == round(point["time_s"], 4)
    assert number(rows["Energy"]) == pytest.approx(point["energy_j"] / 1000, abs=0.0006)
    assert number(rows["Energy against all-max"]) == round(100 * (point["energy_j"] / all_max["energy_j"] - 1), 2)
    assert number(rows["Above the bound"]) == round(100 * point["gap"], 3)


def test_click_on_a_point_chooses_it(open_page, sample):
    page = open_page(sample / "report.html")
    page.locator("#frontier .frontier-dot").nth(5).click()
    assert page.evaluate("perseusPage.stop") == 5
    assert page.locator("#point").input_value() == "5"


def test_timings_equal_the_exact_ones(open_page, sample):
    page = open_page(sample / "report.html")
    expected = json.loads((sample / "expected.json").read_text())
    for stop, want in enumerate(expected):
        got = page.evaluate(
            """(stop) => {
                const {report} = perseusPage;
                const plan = report.planAt(stop);
                const point = report.data.points[report.stops[stop]];
                return {start: [...plan.timing.start], slack: [...plan.timing.slack], makespan: plan.timing.makespan,
                        ranks: report.dag.rankEnergies(plan.choice, point.time_s).map((e) => [e.computing, e.blocking])};
            }""",
            stop,
        )
        assert got["makespan"] == pytest.approx(want["makespan_s"], rel=1e-12)
        assert got["start"] == pytest.approx(want["start_s"], rel=1e-12, abs=1e-12)
        assert got["slack"] == pytest.approx(want["slack_s"], rel=1e-9, abs=1e-9)
        for rank, want_rank in zip(got["ranks"], want["ranks"], strict=True):
            assert rank == pytest.approx(want_rank, rel=1e-9)


def test_timeline_hover_describes_the_computation(open_page, sample):
    page = open_page(sample / "report.html")
    canvas = page.locator("#timeline-canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("perseusPage.timeline.width > 0")
    spot = page.evaluate(
        """() => {
            const t = perseusPage.timeline;
            const id = t.dag.firstOfRank[1] + 5;
            const panel = t.panels[1];
            return {id, x: t.x(panel.timing.start[id] + t.dag.time(panel.choice, id) / 2),
                    y: t.rowsTop(1) + 1.5 * t.row, clock: t.dag.clock(panel.choice, id),
                    kind: t.dag.classes[t.dag.classOf[id]].instruction, microbatch: t.dag.microbatch[id]};
        }"""
    )
    canvas.hover(position={"x": spot["x"], "y": spot["y"]})
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert spot["kind"] in tip.locator("strong").inner_text()
    rows = {r.locator("td").nth(0).inner_text(): r.locator("td").nth(1).inner_text() for r in tip.locator("tr").all()}
    assert number(rows["Clock"]) == spot["clock"]
    assert number(rows["Microbatch"]) == spot["microbatch"]
    assert rows["Rank, stage"] == "1, 1"


def test_timeline_answers_the_keyboard(open_page, sample):
    page = open_page(sample / "report.html")
    canvas = page.locator("#timeline-canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip strong").inner_text() == "F1, forward"
    assert page.locator("#timeline-live").inner_text().startswith("F1, forward. Plan: Perseus.")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("perseusPage.timeline.dag.rankOf[perseusPage.timeline.marked.id]") == 1
    span = page.evaluate("perseusPage.timeline.to - perseusPage.timeline.from")
    page.keyboard.press("+")
    assert page.evaluate("perseusPage.timeline.to - perseusPage.timeline.from") == pytest.approx(span / 1.5)
    page.keyboard.press("0")
    assert page.evaluate("perseusPage.timeline.to - perseusPage.timeline.from") == pytest.approx(span)
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_colour_can_be_clock_or_power(open_page, sample):
    page = open_page(sample / "report.html")
    pixels = "document.getElementById('timeline-canvas').toDataURL()"
    settle = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(settle)
    by_clock = page.evaluate(pixels)
    assert "1410 MHz" in page.locator("#legend").inner_text()
    page.get_by_text("Power", exact=True).click()
    page.evaluate(settle)
    assert "W per GPU" in page.locator("#legend").inner_text()
    assert page.evaluate(pixels) != by_clock


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(open_page, sample, scheme):
    page = open_page(sample / "report.html", scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    theme = "document.documentElement.dataset.theme"
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(theme) == scheme
    before = page.evaluate(background)
    page.locator("#theme").click()
    assert page.evaluate(theme) == other
    assert page.evaluate(background) != before


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of "rgb(r, g, b)"."""
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(open_page, sample, scheme):
    """WCAG 2 AA: 4.5 to 1 for every text colour of the style sheet on the page's ground."""
    page = open_page(sample / "report.html", scheme=scheme)
    for name in ("--ink", "--muted", "--accent", "--baseline", "--bound"):
        colours = page.evaluate(
            """(name) => {
                const probe = document.body.appendChild(document.createElement('i'));
                probe.style.color = `var(${name})`;
                const colours = [getComputedStyle(probe).color, getComputedStyle(document.body).backgroundColor];
                probe.remove();
                return colours;
            }""",
            name,
        )
        light, dark = sorted(map(luminance, colours), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, colours)


def test_phone_needs_no_sideways_scrolling(open_page, sample):
    page = open_page(sample / "report.html", viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("#frontier svg").bounding_box()["width"] <= PHONE["width"]


def test_straggler_energies_follow_the_data(open_page, sample):
    page = open_page(sample / "report.html")
    data = embedded(page)
    power = data["tensor"] * sum(data["blocking_power_w"])
    for value in (0, 120, 200):
        set_slider(page, "#straggler", value)
        sync = number(page.locator("#straggler-value").inner_text())
        shown = [number(t) for t in page.locator("#bloat .number").all_inner_texts()]

        def cost(p):
            return p["energy_j"] - power * p.get("sync_time_s", p["time_s"])

        everything = data["points"] + data["straggler_points"]
        best = min(cost(p) for p in everything if p["time_s"] <= sync + 1e-3)
        assert shown[0] == pytest.approx((cost(data["baselines"][0]) + power * sync) / 1000, abs=0.02)
        assert shown[2] == pytest.approx((best + power * sync) / 1000, rel=2e-3)


def test_savings_table_names_every_baseline(open_page, sample):
    page = open_page(sample / "report.html")
    names = page.locator("#savings tbody th").all_inner_texts()
    assert names == [b["name"] for b in embedded(page)["baselines"]]


def test_warnings_and_inputs_are_listed(open_page, sample):
    page = open_page(sample / "report.html")
    assert "sample.csv:7:2: a made-up warning" in page.locator("#warnings").inner_text()
    inputs = page.locator("#inputs").inner_text()
    assert "85\u202fW" in inputs
    assert "pipeline 4, tensor 8, data 4" in inputs


@pytest.mark.parametrize(("ranks", "microbatches", "points"), [(1, 1, 1), (1, 1, 2), (2, 1, 3)])
def test_smallest_pipelines_open(open_page, tmp_path, ranks, microbatches, points):
    page = open_page(make_sample(tmp_path, ranks, microbatches, points) / "report.html")
    assert page.locator("#frontier svg").count() == 1
    assert "NaN" not in page.locator("body").inner_text()
    assert "Infinity" not in page.locator("body").inner_text()


@pytest.mark.parametrize(("ranks", "microbatches"), [(8, 128), (16, 512)])
def test_large_pipelines_open(open_page, tmp_path, ranks, microbatches, record_property):
    path = make_sample(tmp_path, ranks, microbatches, 40) / "report.html"
    began = time.monotonic()
    page = open_page(path)
    opened = time.monotonic() - began
    draw = page.evaluate(
        """() => {
            const from = performance.now();
            for (let k = 0; k < 10; ++k) { perseusPage.choose(10 + k); perseusPage.timeline.draw(); }
            return (performance.now() - from) / 10;
        }"""
    )
    print(f"\n{ranks} x {microbatches}: {path.stat().st_size} B, open {opened:.2f} s, one slider step {draw:.1f} ms")
    record_property("open_s", opened)
    assert page.evaluate("perseusPage.report.dag.size") == 2 * ranks * microbatches
    assert page.evaluate("perseusPage.report.stops.length") == 40


def with_data(sample: Path, folder: Path, change) -> Path:
    """The sample's page with its data changed: what larger pipelines get."""
    html = (sample / "report.html").read_text()
    head, rest = html.split('id="report-data">', 1)
    text, tail = rest.split("</script>", 1)
    data = json.loads(text)
    change(data)
    path = folder / "changed.html"
    path.write_text(f'{head}id="report-data">{json.dumps(data)}</script>{tail}')
    return path


def test_page_without_timeline_says_so(open_page, sample, tmp_path):
    def drop(data):
        del data["dag"], data["plans"]

    page = open_page(with_data(sample, tmp_path, drop))
    assert page.locator("#timeline-section").is_hidden()
    assert page.locator("#ranks").is_hidden()
    assert "too many computations for a timeline" in page.locator("#warnings").inner_text()
    page.locator("#point").focus()
    page.keyboard.press("End")
    assert readout(page)["Iteration time"] == round(embedded(page)["points"][-1]["time_s"], 3)


def test_slider_stops_where_plans_are(open_page, sample, tmp_path):
    def thin(data):
        data["plans"]["points"] = data["plans"]["points"][::3]

    page = open_page(with_data(sample, tmp_path, thin))
    assert "4 of 10 points carry their plan" in page.locator("#warnings").inner_text()
    set_slider(page, "#point", 2)
    point = embedded(page)["points"][6]
    assert readout(page)["Iteration time"] == round(point["time_s"], 3)
    assert page.evaluate("perseusPage.timeline.panels[1].timing.makespan") == pytest.approx(point["time_s"], rel=1e-12)
    page.locator("#frontier .frontier-dot").nth(8).click()
    assert page.evaluate("perseusPage.stop") == 3


def test_svgs_are_well_formed(sample):
    for name in ("frontier.svg", "timeline.svg"):
        root = xml.etree.ElementTree.parse(sample / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.find("{http://www.w3.org/2000/svg}title").text.endswith("Made-up pipeline")


def test_pngs_are_pngs(sample):
    for name in ("frontier.png", "timeline.png"):
        assert (sample / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_trace_keeps_computations_of_a_rank_apart(sample):
    """What Perfetto needs: complete events, and on one thread none that overlap."""
    trace = json.loads((sample / "trace.json").read_text())
    threads: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            threads.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["dur"]))
    assert len(threads) == 8
    for events in threads.values():
        assert events == sorted(events)
        for (start, length), (following, _) in zip(events, events[1:], strict=False):
            assert start + length <= following + 1e-6
            assert math.isfinite(length)


def test_the_command_writes_a_page_that_opens(open_page, perseus, tmp_path):
    profile, page_path = tmp_path / "profile.csv", tmp_path / "report.html"
    job = ["--pp", "4", "--tp", "8"]
    perseus(
        "synth", "--model", "gpt3-175b", "--gpu-model", "a100-sxm-80g", *job, "--microbatch-size", "1", "-o", profile
    )
    problem = ["--profile", profile, *job, "--microbatches", "8", "--schedule", "1f1b", "--blocking-power", "85"]
    perseus("report", *problem, "-o", page_path)
    page = open_page(page_path)
    data = embedded(page)
    assert data["pipeline"] == 4
    assert data["points"][0]["time_s"] <= data["baselines"][0]["time_s"]
    assert all(p["energy_j"] >= p["lower_bound_j"] * (1 - 1e-9) for p in data["points"])
    assert page.evaluate("perseusPage.timeline.panels.length") == 2
