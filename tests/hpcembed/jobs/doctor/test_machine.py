"""Findings about cores, threads, memory, output folder, BLAS and compiled passes."""

import errno
import os

import pytest

from hpcembed.jobs.doctor import blas, compiled_passes, machine, output_speed
from hpcembed.jobs.doctor.machine import Memory, RankCores
from hpcembed.runtime.machine import native_library
from hpcembed.runtime.machine.native_library import supported_sets


def names(findings):
    return [finding.name for finding in findings]


def cores(*of_ranks, threads=0):
    return [RankCores("a", tuple(cores), threads) for cores in of_ranks]


@pytest.mark.parametrize(
    ("of_ranks", "threads", "quota", "expected"),
    [
        ([range(4)] * 2, 0, None, ["cores"]),
        ([range(4)] * 2, 2, None, ["cores"]),
        ([range(4)] * 2, 3, None, ["too-many-threads"]),
        ([range(4)] * 8, 1, None, ["too-many-ranks"]),
        ([range(4)] * 8, 2, None, ["too-many-ranks", "too-many-threads"]),
        ([range(4)] * 2, 0, 2.5, ["too-many-threads"]),
        ([range(4)] * 2, 1, 2.5, ["cores"]),
        ([range(4)] * 2, 1, 0.5, ["too-many-ranks"]),
        ([[0], [1], [2], [3]], 1, None, ["cores"]),
        ([[0], [1], [2], [3]], 4, None, ["too-many-threads", "narrow-binding"]),
        ([[0], [0]], 1, None, ["too-many-ranks"]),
    ],
)
def test_cores(of_ranks, threads, quota, expected):
    ranks = cores(*of_ranks, threads=threads)
    findings = machine.check_cores(ranks[0], ranks, quota)
    assert names(findings) == expected
    assert all(finding.level == "WARNING" for finding in findings) == (expected != ["cores"])


def test_remedies_of_threads_are_numbers():
    ranks = cores(range(8), range(8), threads=8)
    (finding,) = machine.check_cores(ranks[0], ranks, None)
    assert finding.remedy == "export OMP_NUM_THREADS=4"
    assert "2 ranks with 8 threads each compete for 8 cores" in finding.text
    ranks = cores([0], [1], threads=2)
    assert "srun --cpus-per-task=2" in machine.check_cores(ranks[0], ranks, None)[1].remedy


def test_cores_of_this_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    mine = RankCores.of_this_process("here")
    assert (mine.host, mine.threads) == ("here", 3)
    assert set(mine.cores) <= set(range(os.cpu_count()))
    assert mine.cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"box/job/cpu.max": "400000 100000", "cpu.max": "max 100000"}, 4),
        ({"box/job/cpu.max": "400000 100000", "box/cpu.max": "200000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/old/cpu.cfs_quota_us": "50000", "cpu/old/cpu.cfs_period_us": "100000"}, 0.5),
    ],
)
def test_quotas_of_control_groups(files, quota, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/old\n0::/box/job\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert machine.cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("limits", "shared", "expected", "words"),
    [
        ({"free memory of the host": 2**33}, None, ["memory"], "8.0 GiB"),
        ({"free memory of the host": 2**29}, None, ["low-memory"], "fewer ranks"),
        ({"control group": 2**29, "free memory of the host": 2**33}, None, ["low-memory"],
         "docker run --memory"),
        ({"SLURM": 2**29}, None, ["low-memory"], "sbatch --mem"),
        ({"ulimit -v or -d": 2**29}, None, ["low-memory"], "ulimit -v unlimited"),
        ({"SLURM": 2**33}, 2**26, ["memory", "small-shared-memory"], "--shm-size"),
        ({"SLURM": 2**33}, 2**27, ["memory"], "SLURM"),
        ({}, None, [], ""),
    ],
)  # fmt: skip
def test_memory(limits, shared, expected, words):
    findings = machine.check_memory(Memory(limits, shared, ranks=2))
    assert names(findings) == expected
    assert words in " ".join(finding.text + finding.remedy for finding in findings)


def test_limits_of_memory_are_read(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("3000000\n")
    slurm = {"SLURM_MEM_PER_NODE": "4"}
    memory = machine.memory_of_host(2, tmp_path, slurm)
    assert memory.limits["free memory of the host"] == 2**21
    assert memory.limits["control group"] == 1500000
    assert memory.limits["SLURM"] == 2**21
    assert (memory.shared, memory.ranks) == (None, 2)


def test_output_is_measured_and_nothing_is_left(tmp_path):
    (finding,) = output_speed.check_output(tmp_path / "runs" / "new")
    assert finding.name in ("output", "output-slow")
    assert str(tmp_path) in finding.text
    assert list(tmp_path.iterdir()) == []


def test_output_that_is_slow_and_full(tmp_path, monkeypatch):
    monkeypatch.setattr(output_speed, "write_rate", lambda folder: 1e6)
    usage = type("usage", (), {"free": 2**20})
    monkeypatch.setattr(output_speed.shutil, "disk_usage", lambda folder: usage)
    findings = output_speed.check_output(tmp_path)
    assert names(findings) == ["output-full", "output-slow"]
    assert "only 1.0 MiB are free" in findings[0].text
    assert "only 976.6 KiB/s" in findings[1].text


def test_output_that_cannot_be_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output_speed.os, "fsync", full)
    (finding,) = output_speed.check_output(tmp_path)
    assert (finding.name, finding.level) == ("output-not-writable", "ERROR")
    assert f"{tmp_path}: cannot write: No space left" in finding.text
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_ends_the_measurement(tmp_path, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(output_speed.time, "perf_counter", lambda: float(next(clock)))
    # one reading of the clock before the first piece, one per piece and one at the end
    assert output_speed.write_rate(tmp_path, pieces=50) == 2 * 2**20 / 4


CPUINFO = """processor : 0
vendor_id : {vendor}
cpu family : {family}
model name : {model}
cpu MHz : 2000.000
flags : fpu sse2 {flags}
processor : 1
cpu MHz : 2500.000
"""


@pytest.mark.parametrize(
    ("vendor", "family", "model", "flags", "gflops"),
    [
        ("GenuineIntel", 6, "Xeon", "avx avx2 fma avx512f", 2.5 * 32),
        ("GenuineIntel", 6, "Xeon CPU @ 3.00GHz", "avx avx2 fma avx512f", 3.0 * 32),
        ("AuthenticAMD", 25, "EPYC", "avx avx2 fma avx512f", 2.5 * 16),
        ("AuthenticAMD", 26, "EPYC", "avx avx2 fma avx512f", 2.5 * 32),
        ("AuthenticAMD", 23, "EPYC", "avx avx2 fma", 2.5 * 16),
        ("GenuineIntel", 6, "Xeon", "avx", 2.5 * 8),
        ("GenuineIntel", 6, "Xeon", "", 2.5 * 4),
    ],
)
def test_expected_rates(vendor, family, model, flags, gflops, tmp_path):
    (tmp_path / "proc").mkdir()
    text = CPUINFO.format(vendor=vendor, family=family, model=model, flags=flags)
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert blas.processor(tmp_path).expected == pytest.approx(gflops * 1e9)


def test_an_unknown_processor_has_no_expected_rate(tmp_path):
    core = blas.processor(tmp_path)
    assert core.expected == 0
    probe = {"facts": [{"user": "numpy", "rate": 1e9, "libraries": []}], "recognises": False}
    (finding,) = blas.check_blas(probe, core)
    assert finding.name == "blas"
    assert "expected: unknown" in finding.text
    (tmp_path / "sys/devices/system/cpu/cpu0/cpufreq").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").write_text("3000000\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nFeatures : fp asimd\n")
    assert blas.processor(tmp_path).expected == 24e9  # arm: 2 doubles, 2 units


ZEN4 = blas.Processor(512, has_fma=True, halves_512=True, ghz=2.5)


def probe(architecture, rate=50e9, kind="openblas"):
    library = {"internal_api": kind, "version": "0.3.23", "architecture": architecture}
    return {"facts": [{"user": "numpy", "rate": rate, "libraries": [library]}], "recognises": True}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (probe("Cooperlake"), ["blas"]),
        (probe("Haswell"), ["blas"]),
        (probe("Sandybridge"), ["blas", "blas-kernel"]),
        (probe("Prescott", 10e9), ["blas-slow", "blas-kernel"]),
        (probe("new", 10e9), ["blas-slow"]),
        (probe(None, kind="mkl"), ["blas"]),
        ({"facts": [{"user": "numpy", "rate": 2e9, "libraries": []}], "recognises": True},
         ["blas-unknown", "blas-slow"]),
    ],
)  # fmt: skip
def test_blas(facts, expected, monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    findings = blas.check_blas(facts, ZEN4)
    assert names(findings) == expected
    assert all(finding.level == "WARNING" for finding in findings if finding.name != "blas")


def test_a_kernel_that_the_environment_selects(monkeypatch):
    pytest.importorskip("threadpoolctl")
    core = blas.processor()
    if core.operations(core.bits, core.has_fma) <= 4:
        pytest.skip("a processor without wide vectors")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    facts = blas.run_probe()
    if not any(one["internal_api"] == "openblas" for one in facts["facts"][0]["libraries"]):
        pytest.skip("numpy without OpenBLAS")
    assert all(fact["rate"] > 1e8 for fact in facts["facts"])
    kernel = next(one for one in blas.check_blas(facts, core) if one.name == "blas-kernel")
    assert "kernel Prescott (numpy) reaches 4 operations" in kernel.text
    assert kernel.remedy == "unset OPENBLAS_CORETYPE"


needs_passes = pytest.mark.skipif(not supported_sets(), reason="built without compiled passes")


@needs_passes
@pytest.mark.parametrize(
    ("value", "name", "level"),
    [
        ("", "compiled-passes", "OK"),
        ("none", "compiled-passes-off", "WARNING"),
        ("mmx", "compiled-passes-unknown", "ERROR"),
    ],
)
def test_compiled_passes(value, name, level, monkeypatch):
    monkeypatch.setenv("HPCEMBED_NATIVE", value)
    (finding,) = compiled_passes.check_compiled_passes()
    assert (finding.name, finding.level) == (name, level)
    assert level == "OK" or finding.remedy == "unset HPCEMBED_NATIVE"


@pytest.mark.parametrize(
    ("content", "name"), [(None, "compiled-passes-missing"), (b"x", "compiled-passes-broken")]
)
def test_compiled_passes_that_cannot_be_loaded(content, name, tmp_path, monkeypatch):
    path = tmp_path / "passes.so"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(native_library, "PATH", path)
    native_library.load.cache_clear()
    try:
        (finding,) = compiled_passes.check_compiled_passes()
    finally:
        native_library.load.cache_clear()
    assert (finding.name, finding.level) == (name, "WARNING")
    assert "hpcembed" in finding.remedy
