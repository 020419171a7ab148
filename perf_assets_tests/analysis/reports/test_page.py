"""The report: whole in one file, true to the tables, and it works in a real browser."""

import re
import shutil
import subprocess
from html import unescape

import pytest

from perf_assets.analysis.reports.page import Picture, write_report
from perf_assets.analysis.reports.sections import SECTIONS
from perf_assets.intake.pipeline import ingest
from perf_assets.store.database import NoDatabaseError
from perf_assets_tests.intake.test_pipeline import POLL_HEADER, poll_rows, write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def test_the_page_needs_nothing_else_and_says_what_the_tables_say(examples, tmp_path):
    page = write_report(examples, tmp_path / "deep" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)|url\((?!#)|@import|fetch\(""", page)
    for section in SECTIONS:
        if section.reads not in ("predictor_scores", "regressions"):  # nothing was fitted or judged
            assert f">{section.title}</h2>" in page
            assert section.sql.strip().splitlines()[0].strip() in unescape(page)


def test_hostile_texts_stay_texts(data):
    write(data, "<script>alert(1)</script>.csv", POLL_HEADER + poll_rows(0, 5))
    write(data, "from-the-lab.txt", "the fans were loud on Tuesday\n")
    ingest(data)
    page = write_report(
        data, pictures=[Picture("A <b>", "<svg></svg>", "SELECT '<i>'", ("<u>",))]
    ).read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>" not in page.replace('<div class="tile"><b>', "")
    assert "<svg></svg>" in page
    assert "from-the-lab.txt" in page  # what was not taken in


def test_without_a_database_it_says_what_to_do(data):
    with pytest.raises(NoDatabaseError, match="perf-assets ingest"):
        write_report(data)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_tables_sort_and_filter_in_a_browser(examples, tmp_path):
    page = write_report(examples, tmp_path / "report.html")
    script = """
    <script>
      const table = document.querySelector("table"), heads = table.tHead.rows[0].cells;
      heads[2].click(); heads[2].click();
      const files = [...table.tBodies[0].rows].map((row) => Number(row.cells[2].textContent));
      const input = document.querySelector("input");
      input.value = "perf4sight"; input.dispatchEvent(new Event("input"));
      const left = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
      document.title = JSON.stringify({sorted: files.every((v, i) => !i || files[i - 1] >= v), files, left});
    </script>
    """
    page.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    title = unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert '"sorted":true' in title
    assert '"left":["perf4sight"]' in title
