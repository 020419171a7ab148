"""gpustat's text, rocm-smi, dcgmi dmon, Prometheus' answers and dcgm-exporter's text."""

import json
from datetime import datetime

import pytest

from perf_assets.intake.parsing.source import UnreadableSourceError
from perf_assets_tests.support import read_text


def rows_of(tmp_path, text: str, name: str):
    reading = read_text(tmp_path, text)
    assert reading.format == name
    return reading.rows("cleaned_telemetry"), reading.records


class TestGpustatText:
    HEADER = "node7                 Wed May  1 10:00:00 2024  535.104.05\n"

    def row(self, tmp_path, line: str, header: str = HEADER):
        (row,), records = rows_of(tmp_path, header + line + "\n", "gpustat_text")
        assert records.rejected == 0
        return row

    def test_plain(self, tmp_path):
        row = self.row(tmp_path, "[0] NVIDIA L4 | 30'C,  12 % |   500 / 23034 MB | ann(480M)")
        assert (row["host"], row["device_name"], row["polled_at"]) == (
            "node7",
            "NVIDIA L4",
            datetime(2024, 5, 1, 10),
        )
        assert (row["temperature_c"], row["utilization_pct"], row["memory_used_mib"]) == (30, 12, 500)
        assert dict(row["labels"]) == {"driver": "535.104.05", "processes": "ann(480M)"}

    def test_fan_power_and_codec(self, tmp_path):
        line = "[1] TITAN X | 77°C,  40 %,  96 % (E:  3 %  D:  4 %),  68 / 250 W | 11848 / 12287 MB |"
        row = self.row(tmp_path, line)
        assert (row["utilization_pct"], row["power_w"], row["power_limit_w"]) == (96, 68, 250)
        assert dict(row["metrics"]) == {"fan [%]": 40, "codec E [%]": 3, "codec D [%]": 4}

    def test_unknown_values(self, tmp_path):
        row = self.row(tmp_path, "[0] L4 | ??'C,  ?? % |   ?? / 23034 MB |")
        assert (row["temperature_c"], row["utilization_pct"], row["memory_used_mib"]) == (None, None, None)

    def test_colours(self, tmp_path):
        line = (
            "\x1b[36m[0]\x1b(B\x1b[m \x1b[34mL4\x1b(B\x1b[m |\x1b[1m 30'C\x1b(B\x1b[m,  12 % |   5 / 9 MB |"
        )
        assert self.row(tmp_path, line)["device_name"] == "L4"

    def test_without_a_header(self, tmp_path):
        row = self.row(tmp_path, "[0] L4 | 30'C,  12 % |   500 / 23034 MB |", header="")
        assert (row["polled_at"], row["host"]) == (None, None)


class TestRocmSmi:
    def test_a_table_a_metric(self, tmp_path):
        tables = {
            "GPU use (%)": 42,
            "GPU memory use (%)": 68,
            "Fan speed (level)": 3,
            "Average Graphics Package Power (W)": 210,
        }
        text = "\n".join(f"device,{title}\ncard0,{value}\n" for title, value in tables.items())
        rows, records = rows_of(tmp_path, text, "rocm_smi_csv")
        assert records.rejected == 0
        assert [row["utilization_pct"] for row in rows] == [42, None, None, None]
        assert [row["memory_utilization_pct"] for row in rows] == [None, 68, None, None]
        assert [row["power_w"] for row in rows] == [None, None, None, 210]
        assert dict(rows[2]["metrics"]) == {"Fan speed (level)": 3}

    HEADER = (
        "device,Temperature (Sensor edge) (C),Average Graphics Package Power (W),GPU use (%),VRAM "
        "Total Used Memory (B)\n"
    )

    def test_polls(self, tmp_path):
        text = (self.HEADER + "card0,45.0,212.0,82,1048576\ncard1,44.0,39.0,N/A,0\n\n") * 2
        rows, records = rows_of(tmp_path, text, "rocm_smi_csv")
        assert [row["device_id"] for row in rows] == ["card0", "card1"] * 2
        assert (rows[0]["temperature_c"], rows[0]["power_w"], rows[0]["memory_used_mib"]) == (45, 212, 1)
        assert (rows[1]["utilization_pct"], rows[0]["time_source"]) == (None, "none")
        assert (records.records, records.ignored, records.rejected) == (4, 4, 0)

    def test_socket_power_clocks_names_and_other_sensors(self, tmp_path):
        text = (
            "device,Temperature (Sensor junction) (C),Current Socket Graphics Package Power (W),sclk clock "
            "speed:,"
            "Card Series,sclk clock level:\ncard0,61.0,140.0,(1502Mhz),Instinct MI210,1\nsystem,,,,,\n"
        )
        (row,), records = rows_of(tmp_path, text, "rocm_smi_csv")
        assert (row["power_w"], row["sm_clock_mhz"], row["device_name"]) == (140, 1502, "Instinct MI210")
        assert row["temperature_c"] is None, "the junction is another sensor than nvidia-smi's"
        assert dict(row["metrics"])["Temperature (Sensor junction) (C)"] == 61
        assert records.rejected == 0

    def test_a_time_in_front(self, tmp_path):
        text = f"timestamp,{self.HEADER}2024-06-11T10:00:00Z,card0,45.0,212.0,82,0\n"
        (row,), _ = rows_of(tmp_path, text, "rocm_smi_csv")
        assert (row["polled_at"], row["time_source"]) == (datetime(2024, 6, 11, 10), "utc")


class TestDcgmi:
    def test_entities_and_fields(self, tmp_path):
        text = (
            "$ dcgmi dmon -e 203,155,1002\n#Entity   GPUTL   POWER    SMACT\nID\n"
            "GPU 1     5       52.113   0.251\nGPU-I 3   N/A     N/A      0.9\nGPU 0     98      300.0\n"
        )
        rows, records = rows_of(tmp_path, text, "dcgmi_dmon")
        assert [(row["device_id"], row["utilization_pct"], row["power_w"]) for row in rows] == [
            ("1", 5, 52.113),
            ("GPU-I 3", None, None),
        ]
        assert dict(rows[0]["metrics"]) == {"SMACT": 0.251}
        assert records.rejected == 2, "the prompt, and a row that lacks a cell"


class TestPrometheus:
    def answer(self, *series, kind: str = "matrix") -> str:
        return json.dumps({"status": "success", "data": {"resultType": kind, "result": list(series)}})

    def series(self, metric: str, values, **labels) -> dict:
        return {"metric": {"__name__": metric, "UUID": "GPU-1", "gpu": "0", **labels}, "values": values}

    def test_series_of_one_gpu_become_its_polls(self, tmp_path):
        text = self.answer(
            self.series(
                "DCGM_FI_DEV_POWER_USAGE", [[1718100000, "250.5"], [1718100015.5, "260"]], Hostname="n1"
            ),
            self.series("DCGM_FI_DEV_GPU_UTIL", [[1718100000, "97"]], Hostname="n1"),
            self.series(
                "DCGM_FI_PROF_SM_ACTIVE", [[1718100000, "0.5"], [1718100015.5, "NaN"]], Hostname="n1"
            ),
        )
        rows, _ = rows_of(tmp_path, text, "prometheus_dcgm")
        assert [(row["power_w"], row["utilization_pct"], row["host"]) for row in rows] == [
            (250.5, 97, "n1"),
            (260, None, "n1"),
        ]
        assert rows[0]["polled_at"] == datetime(2024, 6, 11, 10)
        assert dict(rows[0]["metrics"]) == {"DCGM_FI_PROF_SM_ACTIVE": 0.5}

    def test_devices_of_several_hosts_and_parts_of_a_gpu(self, tmp_path):
        values = [[1718100000, "1"]]
        text = self.answer(
            *(
                {
                    "metric": {"__name__": "DCGM_FI_DEV_GPU_TEMP", "gpu": "0", "Hostname": host},
                    "values": values,
                }
                for host in ("n1", "n2")
            ),
            self.series("DCGM_FI_DEV_FB_USED", values, GPU_I_ID="7"),
        )
        rows, _ = rows_of(tmp_path, text, "prometheus_dcgm")
        assert {row["device_id"] for row in rows} == {"n1/0", "n2/0", "GPU-1/7"}

    def test_a_single_moment(self, tmp_path):
        series = self.series("DCGM_FI_DEV_GPU_TEMP", []) | {"value": [1718100000, "61"]}
        del series["values"]
        (row,), _ = rows_of(tmp_path, self.answer(series, kind="vector"), "prometheus_dcgm")
        assert row["temperature_c"] == 61

    @pytest.mark.parametrize("cut", [40, 200])
    def test_a_cut_answer(self, tmp_path, cut):
        text = self.answer(self.series("DCGM_FI_DEV_GPU_TEMP", [[1718100000, "61"]] * 9))
        with pytest.raises(UnreadableSourceError, match="; ask Prometheus"):
            rows_of(tmp_path, text[:-cut], "prometheus_dcgm")

    def test_other_exporters_are_left_alone(self, tmp_path):
        text = self.answer({"metric": {"__name__": "node_load1"}, "values": [[1, "2"]]})
        assert read_text(tmp_path, text).format is None


class TestDcgmExporter:
    def scrape(self, power_w: float, util: int, at: str = "", gpu: int = 0, labels: str = "") -> str:
        of = f'gpu="{gpu}",UUID="GPU-{gpu}",modelName="NVIDIA L4",Hostname="n1"{labels}'
        return (
            "# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).\n# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n"
            f"DCGM_FI_DEV_POWER_USAGE{{{of}}} {power_w}{at}\nDCGM_FI_DEV_GPU_UTIL{{{of}}} {util}{at}\n"
            f"DCGM_FI_PROF_SM_ACTIVE{{{of}}} NaN{at}\ngo_goroutines 12\n"
        )

    def polls(self, tmp_path, text):
        rows, records = rows_of(tmp_path, text, "dcgm_exporter")
        assert records.rejected == 0
        return [(row["device_id"], row["polled_at"], row["power_w"], row["utilization_pct"]) for row in rows]

    def test_a_metric_that_comes_again_is_the_next_poll(self, tmp_path):
        text = "".join(self.scrape(70 + i, 90 + i) + self.scrape(20, 0, gpu=1) for i in range(2))
        assert sorted(self.polls(tmp_path, text)) == [
            ("GPU-0", None, 70, 90),
            ("GPU-0", None, 71, 91),
            ("GPU-1", None, 20, 0),
            ("GPU-1", None, 20, 0),
        ]

    def test_times_of_the_exporter_and_of_a_script(self, tmp_path):
        own = self.scrape(70, 90, " 1718100000000") + self.scrape(80, 95, " 1718100015500")
        first, second = datetime(2024, 6, 11, 10), datetime(2024, 6, 11, 10, 0, 15, 500000)
        assert self.polls(tmp_path, own) == [("GPU-0", first, 70, 90), ("GPU-0", second, 80, 95)]
        dated = f"Tue Jun 11 10:00:00 UTC 2024\n{self.scrape(70, 90)}--- 2024-06-11T10:00:15.5Z\n{self.scrape(80, 95)}"
        assert self.polls(tmp_path, dated) == [("GPU-0", first, 70, 90), ("GPU-0", second, 80, 95)]

    def test_pods_that_share_a_gpu_are_one_poll(self, tmp_path):
        text = "".join(self.scrape(70, 90, " 1718100000000", labels=f',pod="{pod}"') for pod in "ab")
        assert len(self.polls(tmp_path, text)) == 1

    def test_text_with_commas_quotes_and_braces_in_labels(self, tmp_path):
        text = 'DCGM_FI_DEV_GPU_TEMP{gpu="3",Hostname="a\\"b,c=d"} 61\n'
        (row,), _ = rows_of(tmp_path, text, "dcgm_exporter")
        assert (row["device_id"], row["host"], row["temperature_c"]) == ('a"b,c=d/3', 'a"b,c=d', 61)

    @pytest.mark.parametrize(
        "line", ['DCGM_FI_DEV_GPU_TEMP{gpu="0",...} 61', 'DCGM_FI_DEV_GPU_TEMP{gpu="0"} hot']
    )
    def test_what_is_no_sample_is_rejected(self, tmp_path, line):
        rows, records = rows_of(tmp_path, self.scrape(70, 90) + line + "\n", "dcgm_exporter")
        assert (len(rows), records.rejected) == (1, 1)
