"""What a person sees in a browser: the UI that ``perf-assets ui`` serves, and the report.

Screenshots are kept under ``build/screenshots``.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, sync_playwright

from perf_assets.analysis.reports.page import write_report
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import EXAMPLES, ROOT, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = ROOT / "build" / "screenshots"
PATIENCE_MS = 90_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1500, "height": 950})
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, DataPaths]]:
    """The UI of a project with some drops; its sensors take them in."""
    project = tmp_path_factory.mktemp("served")
    for name in ("dagster.yaml", "workspace.yaml", "sweeps"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project / name)
    data = DataPaths(project / "data")
    shutil.copytree(EXAMPLES / "device_logs" / "polls", data.drops / "polls")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    log = project / "ui.log"
    with log.open("w") as output:
        ui = subprocess.Popen(
            # Started by a shell in the background, it would ignore SIGINT.
            [
                "env",
                "--default-signal=INT",
                Path(sys.executable).parent / "perf-assets",
                "ui",
                "--port",
                str(port),
            ],
            cwd=project,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(data.database.exists, timeout_s=180, every_s=0.5, why=log.read_text)
        yield f"http://127.0.0.1:{port}", data
    finally:
        ui.terminate()
        try:
            ui.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ui.pid, signal.SIGKILL)


def shoot(page: Page, name: str) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_the_lineage_is_grouped_and_no_modal_hides_it(served, page):
    page.goto(f"{served[0]}/asset-groups/")
    for group in ("ingestion", "profiles", "predictors", "causal", "comparisons", "plots", "reports"):
        page.get_by_text(group, exact=True).first.wait_for()
    shoot(page, "lineage")
    assert page.get_by_role("dialog").count() == 0


def test_a_table_is_made_by_a_click(served, page):
    address, _ = served
    page.goto(f"{address}/assets/cleaned_runs")
    page.get_by_text("latency_statistic").first.wait_for()
    page.locator("button", has_text=re.compile("^Materialize$")).first.click()
    page.get_by_text("Launched run").wait_for()

    def succeeded() -> bool:
        query = "{runsOrError {... on Runs {results {status assetSelection {path}}}}}"
        answer = page.request.post(f"{address}/graphql", data={"query": query}).json()
        runs = answer["data"]["runsOrError"]["results"]
        return {"status": "SUCCESS", "assetSelection": [{"path": ["cleaned_runs"]}]} in runs

    wait_for(succeeded, timeout_s=120, every_s=1)
    page.goto(f"{address}/assets/cleaned_runs")
    page.get_by_text("Latest materialization").first.wait_for()
    shoot(page, "cleaned_runs")


def test_a_figure_is_seen_on_its_assets_page(served, page):
    address, _ = served
    shown = page.get_by_text("[Show Markdown]")

    def is_drawn() -> bool:
        """By its own sensor, once the tables are made."""
        page.goto(f"{address}/assets/telemetry_plot")
        page.get_by_text("Latest materialization").first.wait_for()
        with contextlib.suppress(TimeoutError):
            shown.first.wait_for(timeout=5000)
        return shown.count() > 0

    wait_for(is_drawn, timeout_s=180)
    shown.first.click()
    picture = page.locator("img[src^='data:image/png']").first
    picture.wait_for()
    width, height = picture.evaluate("each => [each.naturalWidth, each.naturalHeight]")
    assert width >= 800
    assert height > 100
    shoot(page, "telemetry_plot")


def test_the_report_needs_no_network(examples, page, tmp_path):
    report = write_report(examples, tmp_path / "report.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.locator("svg").first.wait_for()
    shoot(page, "report")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    sizes = page.locator("svg").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    assert len(sizes) >= 5
    assert min(sizes) > 300
