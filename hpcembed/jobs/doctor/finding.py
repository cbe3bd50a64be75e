"""A finding, its text for people, and the findings of all ranks as one list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hpcembed.jobs.doctor.catalogue import FINDINGS
from hpcembed.runtime.printable_text import one_line
from hpcembed.runtime.wording import counted

__all__ = ["Finding", "Place", "Report", "found", "merge"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding on one rank.

    Attributes
    ----------
    name : str
        Key of :data:`~hpcembed.jobs.doctor.catalogue.FINDINGS`.
    level : {"OK", "WARNING", "ERROR"}
    text : str
        The finding, in one line.
    remedy : str
        The remedy, in one line; empty where nothing is to be done.
    """

    name: str
    level: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Place:
    """A rank of the job and its host."""

    rank: int
    host: str


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of all ranks, each once, with the ranks that have it.

    Attributes
    ----------
    findings : list of (Finding, list of Place)
        In the order of the checks.
    places : list of Place
        All ranks.
    """

    findings: list[tuple[Finding, list[Place]]]
    places: list[Place]

    @property
    def exit_status(self) -> int:
        """2 if there is an error, else 0."""
        return 2 if self.count("ERROR") else 0

    def count(self, level: str) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding, _ in self.findings)

    def lines(self) -> list[str]:
        """Return one line for each finding, and a line with the numbers of errors and warnings.

        Hosts have findings of one name with other numbers: then those of the first host are shown.
        """
        groups: dict[str, list[tuple[Finding, set[str]]]] = {}
        for finding, places in self.findings:
            hosts = {place.host for place in places}
            groups.setdefault(finding.name, []).append((finding, hosts))
        all_hosts = {place.host for place in self.places}
        lines = []
        for group in groups.values():
            first_hosts = group[0][1]
            others = set().union(*(hosts for _, hosts in group)) - first_hosts
            for finding, hosts in group:
                if hosts & first_hosts:
                    lines.append(_line(finding, hosts, others, all_hosts))
        errors, warnings = self.count("ERROR"), self.count("WARNING")
        lines.append(f"doctor: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the findings as JSON values."""
        return {
            "status": self.exit_status,
            "errors": self.count("ERROR"),
            "warnings": self.count("WARNING"),
            "findings": [
                {
                    "name": finding.name,
                    "level": finding.level,
                    "finding": finding.text,
                    "remedy": finding.remedy,
                    "ranks": [place.rank for place in places],
                    "hosts": sorted({place.host for place in places}),
                }
                for finding, places in self.findings
            ],
        }


def _line(finding: Finding, hosts: set[str], others: set[str], all_hosts: set[str]) -> str:
    """Return the line of a finding on some hosts; `others` have it with other numbers."""
    where = "" if hosts == all_hosts else f"[{', '.join(sorted(hosts)[:8])}] "
    if others:
        where = f"[{min(hosts)}, and similar on {counted(len(others), 'other host')}] "
    remedy = f"; remedy: {finding.remedy}" if finding.remedy else ""
    return one_line(f"{finding.level:7} {finding.name}: {where}{finding.text}{remedy}")


def found(name: str, **values: object) -> Finding:
    """Return a finding of the table, with values for its text and remedy.

    Examples
    --------
    >>> print(found("output-full", folder="runs", free="12.0 MiB").text)
    only 12.0 MiB are free in runs
    """
    entry = FINDINGS[name]
    return Finding(name, entry.level, entry.text.format(**values), entry.remedy.format(**values))


def merge(findings: Iterable[tuple[Place, list[Finding]]]) -> Report:
    """Return the findings of several ranks as one report, each finding once.

    The order is that of the first rank that has a finding.

    Examples
    --------
    >>> finding = found("output-full", folder="runs", free="12.0 MiB")
    >>> report = merge([(Place(0, "a"), [finding]), (Place(1, "b"), [finding])])
    >>> [places for _, places in report.findings]
    [[Place(rank=0, host='a'), Place(rank=1, host='b')]]
    """
    merged: dict[Finding, list[Place]] = {}
    places = []
    for place, several in findings:
        places.append(place)
        for finding in several:
            merged.setdefault(finding, []).append(place)
    return Report(list(merged.items()), places)
