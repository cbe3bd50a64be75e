#!/usr/bin/env python3
"""Read malformed inputs of every format, with limits of memory and time.

    scripts/fuzz.py --inputs 500 --log fuzz.jsonl      500 of each format; goes on where it ended
    scripts/fuzz.py --formats csv,npz --inputs 2000    some formats
    scripts/fuzz.py --repeat 17 csv                    one input again, with its traceback
    scripts/fuzz.py --table fuzz.jsonl                 the table of a log, as Markdown

An input is a function of its format and its seed. Exit status 1 if a promise is broken (see
tests/support/fuzzing/trial.py); the files of each finding are kept in the folder --save.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "solvers"), str(ROOT / "tests" / "support")]
sys.dont_write_bytecode = True  # a file that is written is a finding
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzzing.campaign import Limits, run_chunk  # noqa: E402
from fuzzing.formats import Format, formats, make_case, write_files  # noqa: E402
from fuzzing.trial import Outcome, run_trial  # noqa: E402

#: Inputs of one worker.
CHUNK = 250
FINDINGS = ("traceback", "crash", "hang", "over-allocation", "message", "wrong value", "outside")


def main() -> int:
    """Run the command."""
    options = _options()
    logging.getLogger("hpcembed").addHandler(logging.NullHandler())
    logging.lastResort = None
    if options.table is not None:
        print(table(options.table))
        return 0
    known = formats()
    names = list(known) if options.formats is None else options.formats.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"fuzz.py: no format {unknown[0]!r}; there are {', '.join(known)}")
    if options.repeat is not None:
        return repeat(known[names[0]], options.repeat, options.save)
    limits = Limits(options.memory * 2**20, options.seconds)
    n_found = sum(campaign(known[name], options, limits) for name in names)
    if options.log is not None:
        print(table(options.log))
    return 1 if n_found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100, help="inputs of each format")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--formats", help="names of formats, separated by commas")
    parser.add_argument("--log", type=Path, help="JSON lines of outcomes; seeds in it are skipped")
    parser.add_argument("--save", type=Path, help="folder for the files of findings")
    parser.add_argument("--memory", type=int, default=512, help="MiB that one input may allocate")
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time of one input")
    parser.add_argument(
        "--repeat", nargs=2, metavar=("SEED", "FORMAT"), help="read one input again"
    )
    parser.add_argument("--table", type=Path, metavar="LOG", help="print the table of a log")
    options = parser.parse_args()
    if options.repeat is not None:
        options.repeat, options.formats = int(options.repeat[0]), options.repeat[1]
    return options


def campaign(format: Format, options: argparse.Namespace, limits: Limits) -> int:
    """Read the inputs of one format; return the number of findings."""
    done = {one["seed"] for one in _log(options.log) if one["format"] == format.name}
    counts: Counter[str] = Counter()
    begin, end = options.first, options.first + options.inputs
    for first in range(begin, end, CHUNK):
        seeds = range(first, min(first + CHUNK, end))
        while seeds and seeds.start in done:
            seeds = seeds[1:]
        for seed, outcome in run_chunk(format, seeds, limits):
            counts[outcome.verdict] += 1
            _record(format, seed, outcome, options)
    found = sum(counts[kind] for kind in FINDINGS)
    print(f"{format.name:24} {dict(counts)}", flush=True)
    return found


def _log(path: Path | None) -> list[dict[str, object]]:
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def _record(format: Format, seed: int, outcome: Outcome, options: argparse.Namespace) -> None:
    if outcome.is_finding:
        last = (outcome.text.strip().splitlines() or [""])[-1]
        print(f"  {outcome.verdict}: --repeat {seed} {format.name!r}: {last[:200]}", flush=True)
        if options.save is not None:
            write_files(make_case(format, seed).files, options.save / f"{format.name}-{seed}")
    if options.log is not None:
        entry = {"format": format.name, "seed": seed, "verdict": outcome.verdict,
                 "seconds": round(outcome.seconds, 3)}  # fmt: skip
        if outcome.is_finding:
            entry["text"] = outcome.text
        with options.log.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def repeat(format: Format, seed: int, save: Path | None) -> int:
    """Read one input again in this process, without limits; print what happens."""
    case = make_case(format, seed)
    if save is not None:
        write_files(case.files, save)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        outcome = run_trial(format, case, Path(folder))
    for name, content in case.files.items():
        print(f"{name}: {len(content)} bytes, {content[:60]!r}")
    print(f"{outcome.verdict} after {outcome.seconds:.1f} s\n{outcome.text}")
    return int(outcome.is_finding)


def table(path: Path) -> str:
    """Return the inputs, refusals and findings of each format as a Markdown table."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    slowest: dict[str, float] = defaultdict(float)
    for one in _log(path):
        name = str(one["format"])
        counts[name][str(one["verdict"])] += 1
        slowest[name] = max(slowest[name], float(str(one["seconds"])))
    lines = [
        "| format | inputs | read | refused in one line | traceback or crash | hang "
        "| over-allocation | other | slowest (s) |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total: Counter[str] = Counter()
    for name, one in [*counts.items(), ("all", total)]:
        if name != "all":
            total.update(one)
        other = one["message"] + one["wrong value"] + one["outside"]
        cells = [sum(one.values()), one["read"], one["refused"], one["traceback"] + one["crash"],
                 one["hang"], one["over-allocation"], other]  # fmt: skip
        slow = max(slowest.values(), default=0.0) if name == "all" else slowest[name]
        lines.append(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} | {slow:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
