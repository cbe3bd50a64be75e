"""``hpcembed doctor``: findings of all ranks, output, exit status, and the test job."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hpcembed.jobs.doctor import blas, command, libraries, machine, smoke_test
from hpcembed.jobs.doctor.catalogue import FINDINGS
from hpcembed.jobs.doctor.child_process import environment_without_launcher, run_words
from hpcembed.jobs.doctor.finding import Place, found, merge
from hpcembed.jobs.doctor.launchers import Launcher, find_launcher

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "troubleshooting.md"
MPI = "/usr/lib/libmpi.so.40"
FACTS = {
    "mpi4py": {"version": "4.1.2", "library": "Open MPI v4.1.4", "paths": [MPI]},
    "petsc4py": {"version": "3.18.5", "library": "3.18.4", "scalar": "float64", "paths": [MPI]},
    "slepc4py": {"version": "3.18.2", "library": "3.18.2"},
}
NOTHING = {"facts": [], "recognises": False}


def test_every_finding_is_on_the_page_with_level_and_remedy():
    page = PAGE.read_text("utf-8")
    listed = dict(re.findall(r"^### `([a-z0-9-]+)`: (OK|WARNING|ERROR)$", page, re.MULTILINE))
    assert listed == {name: entry.level for name, entry in FINDINGS.items()}
    for name, entry in FINDINGS.items():
        section = page.partition(f"### `{name}`:")[2].partition("\n### ")[0]
        assert entry.level == "OK" or "Remedy:" in section, name


def test_every_finding_is_tested():
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for name, entry in FINDINGS.items():
        assert f'"{name}"' in tests, name
        assert entry.level == "OK" or entry.remedy, name


def test_lines_name_hosts_and_end_with_a_count():
    slow = found("output-full", folder="runs", free="1 B")
    other = found("output-full", folder="runs", free="2 B")
    bound = found("narrow-binding", threads="2 threads", cores="1 core", count=2)
    report = merge(
        [(Place(0, "a"), [slow]), (Place(1, "b"), [other, bound]), (Place(2, "b"), [bound])]
    )
    lines = report.lines()
    assert lines[0] == (
        "WARNING output-full: [a, and similar on 1 other host] only 1 B are free in runs; "
        "remedy: free space, or choose --out FOLDER"
    )
    assert lines[1].startswith("WARNING narrow-binding: [b] a rank with 2 threads is bound to")
    assert lines[2] == "doctor: 0 errors, 3 warnings"
    assert report.exit_status == 0
    assert report.as_json()["findings"][2] == {
        "name": "narrow-binding", "level": "WARNING", "finding": bound.text,
        "remedy": bound.remedy, "ranks": [1, 2], "hosts": ["b"],
    }  # fmt: skip


def test_findings_stay_on_one_line():
    report = merge([(Place(0, "a"), [found("check-failed", part="BLAS", error="x\n\x1b[31m")])])
    assert "\n" not in report.lines()[0]
    assert "\x1b" not in report.lines()[0]
    assert report.exit_status == 2


@pytest.fixture
def quick(monkeypatch):
    """Checks that start no process, on a host for each rank."""
    monkeypatch.setattr(libraries, "probe_libraries", lambda: json.loads(json.dumps(FACTS)))
    monkeypatch.setattr(blas, "run_probe", lambda: NOTHING)
    monkeypatch.setattr(
        smoke_test, "check_in_own_job",
        lambda library: [found("smoke-test", ranks="2 ranks", seconds="0.1")],
    )  # fmt: skip
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.mpi
def test_findings_of_all_ranks_are_printed_once(quick, comm, shared_tmp, monkeypatch, capfd):
    monkeypatch.setattr(command.socket, "gethostname", lambda: f"host{comm.rank}")
    assert command.run_doctor(comm, shared_tmp, as_json=True) == 0
    shown = capfd.readouterr().out
    if comm.rank:
        assert shown == ""
        return
    report = json.loads(shown)
    assert (report["status"], report["errors"]) == (0, 0)
    by_name = {}
    for one in report["findings"]:
        by_name.setdefault(one["name"], []).append(one)
    assert len(by_name["mpi"]) == len(by_name["smoke-test"]) == 1
    assert by_name["mpi"][0]["ranks"] == list(range(comm.size))
    assert by_name["mpi"][0]["hosts"] == [f"host{rank}" for rank in range(comm.size)]


@pytest.mark.mpi
def test_an_error_of_one_host_is_the_status_of_all_ranks(
    quick, comm, shared_tmp, monkeypatch, capfd
):
    monkeypatch.setattr(command.socket, "gethostname", lambda: f"host{comm.rank}")
    last = comm.size - 1

    def full(out):
        if comm.rank == last:
            raise ValueError("no such file system")
        return []

    monkeypatch.setattr(command, "check_output", full)
    assert command.run_doctor(comm, shared_tmp) == 2
    lines = capfd.readouterr().out.splitlines()
    if comm.rank == 0:
        where = f"[host{last}] " if comm.size > 1 else ""
        expected = f"ERROR   check-failed: {where}the check of output failed: ValueError: no such"
        assert sum(line.startswith(expected) for line in lines) == 1
        assert lines[-1].startswith("doctor: 1 error,")
        assert not any("smoke-test" in line for line in lines)


@pytest.mark.mpi
def test_versions_that_differ_between_hosts(quick, comm, shared_tmp, monkeypatch, capfd):
    monkeypatch.setattr(command.socket, "gethostname", lambda: f"host{comm.rank}")
    facts = json.loads(json.dumps(FACTS))
    facts["mpi4py"]["version"] = f"4.{comm.rank}.0"
    monkeypatch.setattr(libraries, "probe_libraries", lambda: facts)
    assert command.run_doctor(comm, shared_tmp) == (2 if comm.size > 1 else 0)
    shown = capfd.readouterr().out
    if comm.rank == 0 and comm.size > 1:
        (line,) = (
            one for one in shown.splitlines() if one.split()[1].rstrip(":") == "hosts-differ"
        )
        assert "mpi4py has several versions" in line
        assert "4.0.0 on host0, 4.1.0 on host1" in shown


@pytest.mark.mpi
def test_the_small_problem_is_solved_on_all_ranks(comm):
    assert smoke_test.solve_small(comm) < 1e-6


def test_a_wrong_eigenvalue_is_an_error():
    finding = smoke_test._verdict({"error": 0.1, "seconds": 1.0, "size": 2}, "2 ranks")
    assert (finding.name, finding.level) == ("smoke-test-wrong", "ERROR")
    assert smoke_test._verdict({"error": float("nan"), "seconds": 1.0}, "").name == finding.name


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


VERSION = 'if [ "$1" = --version ]; then echo "mpirun (Open MPI) 4.1.4"; exit; fi\n'


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (VERSION + "echo the host is unknown >&2; exit 7", "smoke-test-failed",
         "exit status 7: the host is unknown"),
        (VERSION + "sleep 600", "smoke-test-hangs", "did not end in 3 s"),
        (VERSION + """echo '{"size": 1, "error": 0, "seconds": 1}'
echo '{"size": 1, "error": 0, "seconds": 1}'""", "separate-worlds", "started 2 processes"),
        (VERSION + """echo '{"size": 2, "error": 0.5, "seconds": 1}'""", "smoke-test-wrong", "0"),
        (VERSION + """echo '{"size": 2, "error": 0, "seconds": 1}'""", "smoke-test", "in 1.0 s"),
        ("echo HYDRA build details", "no-launcher", "of another MPI"),
    ],
)  # fmt: skip
def test_launchers(text, name, words, tmp_path, monkeypatch):
    monkeypatch.setenv("MPIEXEC", script(tmp_path / "mpiexec", text))
    limit = 3 if name == "smoke-test-hangs" else 60
    (finding,) = smoke_test.check_in_own_job("Open MPI v4.1.4", limit=limit)
    assert finding.name == name
    assert words in finding.text


def test_no_launcher_at_all(tmp_path, monkeypatch):
    monkeypatch.delenv("MPIEXEC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("hpcembed.jobs.doctor.launchers._python_folders", lambda: (tmp_path,))
    assert find_launcher("MPICH Version: 4.0") == Launcher("", "hydra")
    (finding,) = smoke_test.check_in_own_job("MPICH Version: 4.0")
    assert (finding.name, finding.level) == ("no-launcher", "WARNING")
    assert "jobs run on one rank" in finding.text
    assert "MPIEXEC" in finding.remedy


def test_the_time_limit_ends_children_as_well(tmp_path):
    ended = run_words(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/child; wait"], 1)
    assert ended.status is None
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/status")
    assert not state.exists() or "zombie" in state.read_text()


def test_children_leave_the_job(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "3")
    monkeypatch.setenv("OMPI_MCA_btl", "self")
    environment = environment_without_launcher({"A": "1"})
    assert "PMI_RANK" not in environment
    assert (environment["OMPI_MCA_btl"], environment["A"]) == ("self", "1")


def run_program(*words, **changes):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_C", "PM"))}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-m", "hpcembed", "doctor", *words],
        env=kept | changes, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_separate_worlds_are_reported_by_one_process(number, tmp_path):
    """A stub of torch keeps the test short."""
    (tmp_path / "torch.py").write_text("raise ImportError('a stub')")
    sizes = {"PMI_SIZE": "3", "PMI_RANK": str(number)}
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    done = run_program("--out", str(tmp_path), PYTHONPATH=path, **sizes)
    assert (done.returncode, done.stderr) == (2, "")
    if number:
        assert done.stdout == ""
    else:
        assert "ERROR   separate-worlds: the launcher started 3 processes" in done.stdout
        assert "ERROR   package-broken: torch is installed" in done.stdout
        assert "doctor: 2 errors" in done.stdout


def test_a_launcher_without_a_usable_mpi4py(tmp_path):
    for name in ("mpi4py", "petsc4py", "slepc4py", "torch"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('libmpi.so.12: not found')")
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    done = run_program("--json", PYTHONPATH=path, PMI_SIZE="2", PMI_RANK="0")
    assert done.returncode == 2, done.stderr
    names = [one["name"] for one in json.loads(done.stdout)["findings"]]
    assert names.count("package-broken") == 4
    assert "no-mpi4py-for-launcher" in names


def test_this_installation_has_no_error():
    done = run_program()
    assert done.returncode == 0, done.stdout
    assert re.search(r"^(OK      smoke-test|WARNING no-launcher): ", done.stdout, re.MULTILINE)
    assert re.search(r"^doctor: 0 errors, \d+ warnings?$", done.stdout, re.MULTILINE)
    assert done.stderr == ""
