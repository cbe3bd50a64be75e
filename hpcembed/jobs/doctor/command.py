"""``hpcembed doctor``: run all checks on all ranks, and print the findings once.

The checks of a host run on the first of its ranks while the others sleep. If a launcher and mpi4py
do not fit, each process is a job of its own: then the process that the launcher numbers 0 reports
it, and the others print nothing.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcembed.jobs.doctor import blas, libraries, machine, smoke_test
from hpcembed.jobs.doctor.compiled_passes import check_compiled_passes
from hpcembed.jobs.doctor.finding import Finding, Place, Report, found, merge
from hpcembed.jobs.doctor.output_speed import check_output
from hpcembed.runtime.errors import error_text
from hpcembed.runtime.launcher import launched_rank, launched_size
from hpcembed.runtime.logging import show

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["run_doctor"]


def run_doctor(comm: MPI.Intracomm, out: Path, *, as_json: bool = False) -> int:
    """Check installation, machine and launcher, and print one line for each finding.

    Collective.

    Parameters
    ----------
    comm : MPI.Intracomm or SingleProcess
        All ranks, or one process without MPI.
    out : Path
        Folder whose file system is checked; it is not created.
    as_json : bool
        Print one JSON object.

    Returns
    -------
    int
        0, or 2 if there is an error; the same on all ranks.
    """
    place = Place(comm.rank, socket.gethostname())
    cores = machine.RankCores.of_this_process(place.host)
    everyone = comm.allgather((place, cores)) if comm.size > 1 else [(place, cores)]
    on_host = [(other, of_other) for other, of_other in everyone if other.host == place.host]
    findings = _checked("cores", lambda: _cores(cores, [of_other for _, of_other in on_host]))
    facts: dict[str, dict[str, Any]] = {}
    if on_host[0][0] == place:
        findings = _of_host(findings, facts, len(on_host), out)
    if comm.size == 1:
        return _end_alone(place, findings, facts, as_json)
    _sleep_until_all(comm)
    gathered = comm.allgather((place, findings, facts))
    report = merge([(other, several) for other, several, _ in gathered])
    differing = _differences([(other, of_other) for other, _, of_other in gathered if of_other])
    report.findings.extend((finding, report.places) for finding in differing)
    if not report.exit_status:

        def on_timeout(finding: Finding) -> None:
            _print(merge([*[(p, f) for p, f, _ in gathered], (place, [finding])]), as_json)

        solved = smoke_test.check_in_this_job(comm, on_timeout)
        report.findings.extend((finding, report.places) for finding in solved)
    if comm.rank == 0:
        _print(report, as_json)
    return report.exit_status


def _cores(mine: machine.RankCores, on_host: list[machine.RankCores]) -> list[Finding]:
    return machine.check_cores(mine, on_host, machine.cpu_quota())


def _of_host(
    of_rank: list[Finding], facts: dict[str, dict[str, Any]], ranks: int, out: Path
) -> list[Finding]:
    """Return the findings of a host, in the order of the report; store the facts of libraries."""

    def of_libraries() -> list[Finding]:
        facts.update(libraries.probe_libraries())
        return libraries.check_libraries(facts)

    def of_blas() -> list[Finding]:
        return blas.check_blas(blas.run_probe(), blas.processor())

    def of_memory() -> list[Finding]:
        return machine.check_memory(machine.memory_of_host(ranks))

    return [
        *_checked("packages", libraries.check_packages),
        *_checked("libraries", of_libraries),
        *of_rank,
        *_checked("memory", of_memory),
        *_checked("output", lambda: check_output(out)),
        *_checked("BLAS", of_blas),
        *_checked("compiled passes", check_compiled_passes),
    ]


def _checked(part: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return the findings of a check; an exception, which other ranks may not have, is one."""
    try:
        return check()
    except Exception as error:
        return [found("check-failed", part=part, error=error_text(error))]


def _end_alone(
    place: Place, findings: list[Finding], facts: Mapping[str, Mapping[str, Any]], as_json: bool
) -> int:
    """Check the launcher of a job of one process, run the smoke test in a job, and print."""
    launched = launched_size()
    library = str(facts.get("mpi4py", {}).get("library", ""))
    if launched > 1:
        if library:
            findings.append(found("separate-worlds", launched=launched, library=library))
        else:
            findings.append(found("no-mpi4py-for-launcher", launched=launched))
    complete = {"mpi4py", "petsc4py", "slepc4py"} <= {p for p in facts if "version" in facts[p]}
    report = merge([(place, findings)])
    if complete and not report.exit_status:
        solved = _checked("smoke test", lambda: smoke_test.check_in_own_job(library))
        report = merge([(place, [*findings, *solved])])
    if launched_rank() == 0:
        _print(report, as_json)
    return report.exit_status


def _differences(of_hosts: list[tuple[Place, Mapping[str, Mapping[str, Any]]]]) -> list[Finding]:
    """Return a finding for each package that has several versions."""
    versions: dict[str, dict[str, str]] = {}
    for place, facts in of_hosts:
        for package, fact in facts.items():
            version = str(fact.get("version", "none"))
            versions.setdefault(package, {}).setdefault(version, place.host)
    findings = []
    for package, places in versions.items():
        if len(places) > 1:
            text = ", ".join(f"{version} on {host}" for version, host in places.items())
            findings.append(found("hosts-differ", package=package, versions=text))
    return findings


def _sleep_until_all(comm: MPI.Intracomm) -> None:
    """Wait for the ranks that check their hosts, without load on their cores. Collective."""
    everybody = comm.Ibarrier()
    while not everybody.Test():
        time.sleep(0.02)


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        show(json.dumps(report.as_json(), indent=1, ensure_ascii=True), is_data=True)
    else:
        show("\n".join(report.lines()))
