"""Print the requirements of pyproject.toml, one per line, for `pip install -r`.

pip alone would add the bindings to MPI, PETSc and SLEPc, and build them from source. It reads
dependency groups from release 25.1 on.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib


def group(table: dict[str, list[Any]], name: str) -> list[str]:
    """Return the requirements of a dependency group and of the groups it includes (PEP 735)."""
    found: list[str] = []
    for entry in table[name]:
        found += group(table, entry["include-group"]) if isinstance(entry, dict) else [entry]
    return found


def main() -> None:
    """Print the requirements that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pyproject")
    parser.add_argument("--build", action="store_true", help="add the requirements of the build")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME")
    parser.add_argument("--group", action="append", default=[], metavar="NAME")
    parser.add_argument("--only-groups", action="store_true", help="omit the project's own")
    arguments = parser.parse_args()
    with open(arguments.pyproject, "rb") as file:
        project = tomllib.load(file)
    requirements = [] if arguments.only_groups else list(project["project"]["dependencies"])
    for name in arguments.extra:
        requirements += project["project"]["optional-dependencies"][name]
    if arguments.build:
        requirements += project["build-system"]["requires"]
    for name in arguments.group:
        requirements += group(project["dependency-groups"], name)
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is None or name.group() not in arguments.without:
            print(requirement)


if __name__ == "__main__":
    main()
