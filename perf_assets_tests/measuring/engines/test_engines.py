"""Jobs on this machine, on a real, small Slurm and by a real sshd: the same behaviour, whatever happens."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from perf_assets.measuring.engines.engine import (
    EngineError,
    Job,
    JobFailedError,
    State,
    Status,
    Watcher,
    cancel_orphans,
    run_job,
)
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine
from perf_assets.measuring.engines.ssh import SshEngine
from perf_assets_tests.measuring.engines.small_slurm import needs_slurm, small_slurm
from perf_assets_tests.measuring.engines.small_sshd import needs_sshd, small_sshd
from perf_assets_tests.support import wait_for


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with small_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        before = dict(os.environ)
        os.environ.update(cluster.environment)
        yield cluster
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with small_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture(
    params=["local", pytest.param("slurm", marks=needs_slurm), pytest.param("ssh", marks=needs_sshd)]
)
def engine(request, monkeypatch):
    if request.param == "local":
        return LocalEngine()
    if request.param == "ssh":
        monkeypatch.setenv("PERF_ASSETS_CLUSTER", str(request.getfixturevalue("sshd").site))
        return SshEngine(load_site())
    request.getfixturevalue("cluster")
    return SlurmEngine(load_site())


@pytest.fixture
def slurm(cluster):
    for device in ("alpha", "beta", "gamma"):
        cluster.set_node(device, "resume")
    return SlurmEngine(load_site())


class Log(Watcher):
    """Keeps what it is told."""

    def __init__(self):
        self.lines: list[str] = []
        self.statuses: list[tuple[str, Status]] = []
        super().__init__(self.lines.append, lambda job_id, status: self.statuses.append((job_id, status)))

    @property
    def job_ids(self) -> list[str]:
        return list(dict.fromkeys(job_id for job_id, _ in self.statuses))


def job(tmp_path, script: str, *arguments: str, name="pa-test-1", **options) -> Job:
    return Job(
        name, [sys.executable, "-u", "-c", script, *arguments], tmp_path / "work", device="alpha", **options
    )


class TestEveryEngine:
    def test_success_with_output_environment_and_host(self, engine, tmp_path):
        log = Log()
        script = (
            "import os, sys; print('hello', os.environ['GREETING'], sys.argv[1]); sys.stdout.write('no end')"
        )
        status = run_job(
            engine, job(tmp_path, script, "it's; $HOME", environment={"GREETING": "a 'b' $c"}), log
        )
        assert status.state is State.SUCCEEDED
        assert status.host
        assert log.lines == ["hello a 'b' $c it's; $HOME", "no end"]

    def test_output_comes_while_the_job_runs(self, engine, tmp_path):
        gate = tmp_path / "gate"
        seen = []

        def on_output(line):
            seen.append(line)
            gate.touch()

        script = f"""
import os, time
print('first')
while not os.path.exists({str(gate)!r}): time.sleep(0.05)
print('second')
"""
        run_job(engine, job(tmp_path, script, run_timeout_s=60), Watcher(on_output=on_output))
        assert seen == ["first", "second"]

    def test_command_that_fails(self, engine, tmp_path):
        log = Log()
        with pytest.raises(JobFailedError, match=r"exit code 7.*output\.txt") as caught:
            run_job(engine, job(tmp_path, "import sys; print('so it goes'); sys.exit(7)"), log)
        assert caught.value.status.state is State.FAILED
        assert log.lines == ["so it goes"]
        assert len(log.job_ids) == 1

    def test_command_that_dies_by_a_signal(self, engine, tmp_path):
        with pytest.raises(JobFailedError, match="signal 9"):
            run_job(engine, job(tmp_path, "import os; os.kill(os.getpid(), 9)"))

    def test_run_timeout_in_seconds(self, engine, tmp_path):
        log = Log()
        started = tmp_path / "started"
        script = f"import time; open({str(started)!r}, 'w').close(); time.sleep(60)"
        with pytest.raises(JobFailedError, match="ran more than 1 s"):
            run_job(engine, job(tmp_path, script, run_timeout_s=1), log)
        assert started.exists()
        wait_for(lambda: engine.poll(log.job_ids[0], tmp_path / "work").state.is_final)

    def test_interrupted_caller_leaves_nothing_behind(self, engine, tmp_path):
        def interrupt(line):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_job(
                engine,
                job(tmp_path, "import time; print('go'); time.sleep(60)", name="pa-test-interrupted"),
                Watcher(on_output=interrupt),
            )
        wait_for(lambda: engine.find("pa-test-interrupted") == [])

    def test_finished_job_is_not_run_again(self, engine, tmp_path):
        counter = tmp_path / "counter"
        script = f"open({str(counter)!r}, 'a').write('x')"
        for _ in range(2):
            assert run_job(engine, job(tmp_path, script)).state is State.SUCCEEDED
        assert counter.read_text() == "x"

    def test_running_job_is_attached_to(self, engine, tmp_path):
        """The caller is killed; the next one with the same folder follows the job it left."""
        counter, gate = tmp_path / "counter", tmp_path / "gate"
        script = f"""
import os, time
open({str(counter)!r}, 'a').write('x'); print('waiting')
while not os.path.exists({str(gate)!r}): time.sleep(0.05)
print('done')
"""
        the_job = job(tmp_path, script, name="pa-test-attach")
        caller = subprocess.Popen(
            [
                sys.executable,
                *("-m", "perf_assets_tests.measuring.engines.caller"),
                engine.name,
                the_job.name,
                str(the_job.work_dir),
                *the_job.command,
            ]
        )
        wait_for(counter.exists)
        caller.send_signal(signal.SIGKILL)
        caller.wait()
        assert [name for _, name in engine.find("pa-test-attach")] == ["pa-test-attach"]
        gate.touch()
        log = Log()
        assert run_job(engine, the_job, log).state is State.SUCCEEDED
        assert counter.read_text() == "x"
        assert log.lines[-1] == "done"

    def test_orphans_are_found_and_cancelled(self, engine, tmp_path):
        for owner in ("dead", "living"):
            folder = tmp_path / owner
            folder.mkdir()
            device = "alpha" if owner == "dead" else "beta"
            engine.submit(Job(f"pa-orphan-{owner}", ["sleep", "60"], folder, device=device))
        wait_for(lambda: len(engine.find("pa-orphan-")) == 2)
        assert cancel_orphans(engine, "pa-orphan-", lambda owner: owner == "living") == ["pa-orphan-dead"]
        wait_for(lambda: [name for _, name in engine.find("pa-orphan-")] == ["pa-orphan-living"])
        cancel_orphans(engine, "pa-orphan-", lambda owner: False)
        wait_for(lambda: engine.find("pa-orphan-") == [])

    def test_names_are_checked(self, engine, tmp_path):
        with pytest.raises(ValueError, match="no job name"):
            run_job(engine, job(tmp_path, "pass", name="two words; rm"))


def test_local_job_that_has_ended_before_anybody_looks(tmp_path):
    """Its process is gone, and with it the start time that tells its pid from a recycled one."""
    engine = LocalEngine()
    (tmp_path / "exit_code").write_text("5\n")
    assert engine.poll("999999999-", tmp_path) == Status(State.FAILED, exit_code=5, host=os.uname().nodename)
    for number in range(30):
        run_job(engine, Job(f"pa-short-{number}", ["true"], tmp_path / str(number)))


def test_local_command_that_is_not_there(tmp_path):
    with pytest.raises(JobFailedError, match="exit code 127"):
        run_job(LocalEngine(), Job("pa-absent", ["/no/such/program"], tmp_path / "work"))


@needs_slurm
class TestSlurm:
    def test_job_runs_on_a_node_with_its_device(self, slurm, tmp_path):
        log = Log()
        script = "import os; print(os.environ['SLURMD_NODENAME'], os.environ['CUDA_VISIBLE_DEVICES'])"
        the_job = Job("pa-beta", [sys.executable, "-c", script], tmp_path / "work", device="beta")
        status = run_job(slurm, the_job, log)
        assert log.lines == ["beta-0 0"]
        assert status.host == "beta-0"
        assert [status.state for _, status in log.statuses][-1] is State.SUCCEEDED

    def test_one_device_runs_one_job_at_a_time(self, slurm, tmp_path):
        spans = []
        script = "import time; print(time.time()); time.sleep(1); print(time.time())"

        def run(number):
            log = Log()
            run_job(
                slurm,
                Job(
                    f"pa-gres-{number}",
                    [sys.executable, "-c", script],
                    tmp_path / str(number),
                    device="gamma",
                ),
                log,
            )
            spans.append(tuple(map(float, log.lines)))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spans.sort()
        assert len(spans) == 3
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))

    def test_node_lost_in_mid_run_means_a_second_job(self, slurm, cluster, tmp_path):
        log = Log()
        counter = tmp_path / "counter"
        script = f"""
import os, time
open({str(counter)!r}, 'a').write('x')
if os.path.getsize({str(counter)!r}) == 1: time.sleep(60)
"""

        def fail_node():
            wait_for(counter.exists)
            cluster.set_node("alpha", "down")

        thread = threading.Thread(target=fail_node)
        thread.start()
        status = run_job(slurm, job(tmp_path, script), log)
        thread.join()
        assert status.state is State.SUCCEEDED
        assert counter.read_text() == "xx"
        assert len(log.job_ids) == 2
        assert any("lost with its node" in line for line in log.lines)

    def test_lost_too_often(self, slurm, cluster, tmp_path):
        counter = tmp_path / "counter"
        script = f"import time; open({str(counter)!r}, 'a').write('x'); time.sleep(60)"
        stop = threading.Event()

        def fail_nodes():
            seen = 0
            while not stop.wait(0.05):
                size = counter.stat().st_size if counter.exists() else 0
                if size > seen:
                    seen = size
                    cluster.set_node("alpha", "down")

        thread = threading.Thread(target=fail_nodes)
        thread.start()
        with pytest.raises(JobFailedError) as caught:
            run_job(slurm, job(tmp_path, script), lost_retries=1)
        stop.set()
        thread.join()
        assert caught.value.status.state is State.LOST
        assert counter.read_text() == "xx"

    def test_queue_timeout_on_a_drained_node(self, slurm, cluster, tmp_path):
        cluster.set_node("alpha", "drain")
        with pytest.raises(JobFailedError, match="in the queue"):
            run_job(slurm, job(tmp_path, "pass", name="pa-queue", queue_timeout_s=2))
        wait_for(lambda: "pa-queue" not in cluster.queue())

    def test_cancelled_by_others(self, slurm, cluster, tmp_path):
        log = Log()
        watcher = Watcher(
            on_output=lambda line: cluster.run("scancel", "--name=pa-cancel"),
            on_status=log.on_status,
        )
        with pytest.raises(JobFailedError) as caught:
            run_job(
                slurm, job(tmp_path, "import time; print('go'); time.sleep(60)", name="pa-cancel"), watcher
            )
        assert caught.value.status.state is State.CANCELLED
        assert len(log.job_ids) == 1

    def test_second_start_after_its_end_repeats_the_exit_code(self, slurm, tmp_path):
        again = job(tmp_path, "open('ran', 'w')")
        again.work_dir.mkdir()
        (again.work_dir / "exit_code").write_text("3\n")
        job_id = slurm.submit(again)
        wait_for(lambda: slurm.poll(job_id, again.work_dir).state.is_final)
        assert slurm.poll(job_id, again.work_dir).exit_code == 3
        assert not (again.work_dir / "ran").exists()

    def test_forgotten_job_is_known_by_its_exit_code(self, slurm, tmp_path):
        (tmp_path / "exit_code").write_text("3\n")
        assert slurm.poll("999999", tmp_path) == Status(State.FAILED, exit_code=3)
        (tmp_path / "exit_code").unlink()
        assert slurm.poll("999999", tmp_path).state is State.LOST

    def test_number_given_to_another_job(self, slurm, tmp_path):
        another = job(tmp_path, "pass")
        another.work_dir.mkdir()
        job_id = slurm.submit(another)
        (tmp_path / "exit_code").write_text("3\n")
        assert slurm.poll(job_id, tmp_path) == Status(State.FAILED, exit_code=3)
        wait_for(lambda: slurm.poll(job_id, another.work_dir).state is State.SUCCEEDED)

    @pytest.mark.parametrize(
        ("device", "message"),
        [
            ("delta", "sinfo -o"),
            ("elsewhere", "partition of"),
            ("greedy", "check gres"),
            ("absent", r"no device 'absent'.*alpha.*beta"),
            (None, "names no device"),
        ],
    )
    def test_refusals_say_what_to_change(self, slurm, tmp_path, device, message):
        with pytest.raises(EngineError, match=message):
            run_job(slurm, Job("pa-refused", ["true"], tmp_path / "work", device=device))

    def test_nodes_are_listed(self, slurm):
        listed = {(name, features, gres) for name, _, features, gres in slurm.nodes()}
        assert ("alpha-0", "alpha", "gpu:alpha:1") in listed


@needs_slurm
@pytest.mark.parametrize("waits_s", [0, 3], ids=["at_once", "after_waiting"])
def test_controller_killed_for_8_s_in_mid_job(tmp_path, tmp_path_factory, monkeypatch, waits_s):
    """Of a job that waited for its device, the controller remembers only that it waits; other jobs it
    forgets."""
    begun = tmp_path / "begun"
    script = f"import time; open({str(begun)!r}, 'w').close(); time.sleep(4); print('through')"
    (tmp_path / "before").mkdir()
    # A cluster of its own: numbers that are given out again would mix up other tests' jobs.
    with small_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        slurm = SlurmEngine(load_site())
        slurm.submit(Job("pa-before", ["sleep", str(waits_s)], tmp_path / "before", device="alpha"))

        def restart():
            wait_for(begun.exists)
            cluster.kill_controller()
            time.sleep(8)
            cluster.start_controller()

        thread = threading.Thread(target=restart)
        thread.start()
        log = Log()
        status = run_job(slurm, job(tmp_path, script), log)
        thread.join()
    assert status.state is State.SUCCEEDED
    assert log.lines == ["through"]
    assert len(log.job_ids) == 1


def test_slurm_is_not_installed(tmp_path, monkeypatch):
    site = tmp_path / "cluster.toml"
    site.write_text("[devices.alpha]\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="sbatch is not installed"):
        run_job(SlurmEngine(load_site(site)), job(tmp_path, "pass"))
