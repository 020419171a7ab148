import csv

from perf_assets_tests.support import SAMPLES, needs_samples, read, read_text


@needs_samples("load_tests")
def test_real_table():
    path = SAMPLES / "load_tests/upstream_notebook_tables/aas_throughput_vs_mu.csv"
    with path.open() as stream:
        expected = [float(row["aas_events_per_s"]) for row in csv.DictReader(stream)]
    assert [run["throughput_per_s"] for run in read(path).rows("cleaned_runs")] == expected


def test_series_and_holes(tmp_path):
    reading = read_text(tmp_path, "mu,aas_events_per_s,cpu_events_per_s\n20,40,8\n60,20,\n100,x,1\n140,0,1\n")
    assert [run["name"] for run in reading.rows("cleaned_runs")] == ["aas mu 20", "cpu mu 20", "aas mu 60"]
    assert reading.records.rejected == 2


def test_other_tables_are_left_alone(tmp_path):
    assert read_text(tmp_path, "mu,sigma\n1,2\n").format is None
