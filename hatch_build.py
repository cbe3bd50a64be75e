"""Build hook: compile the native passes of hpcembed with the C compiler of this system.

Each instruction set is compiled from the same source with its own options, and the library contains
all of them; :mod:`hpcembed.runtime.machine.native_library` chooses at run time. The library is
plain C, loaded by ctypes: one wheel serves all releases of Python. Without a C compiler the package
is built without the library, and numpy takes its place.

CC and CFLAGS name another compiler and further options.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("hpcembed", "operators", "native")
LIBRARY = FOLDER / "passes.so"

#: name, bytes of a vector, rows of a tile of sums, options of the compiler. A tile and the values
#: that it is multiplied with fill the vector registers.
BASELINE = {
    "x86_64": ("sse2", 16, 6, []),
    "aarch64": ("neon", 16, 12, []),
}
EXTENSIONS = {
    "x86_64": [
        ("avx2", 32, 6, ["-mavx2", "-mfma"]),
        ("avx512", 64, 12, ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"]),
    ],
}


def compile_library(root: Path) -> Path:
    """Compile the library below the folder of the sources, and return its path.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        There is no C compiler, or it fails.
    """
    machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    variants = [BASELINE.get(machine, ("plain", 16, 4, [])), *EXTENSIONS.get(machine, [])]
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or "gcc"]
    options = ["-O3", "-std=gnu11", "-fPIC", "-ffp-contract=fast"]
    options += shlex.split(os.environ.get("CFLAGS", ""))
    source, library = root / FOLDER / "passes.c", root / LIBRARY
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, vector_bytes, tile_rows, flags in variants:
            defines = [f"-DSUFFIX={name}", f"-DVECTOR_BYTES={vector_bytes}"]
            defines.append(f"-DTILE_ROWS={tile_rows}")
            objects.append(str(Path(folder, f"{name}.o")))
            command = [*compiler, *options, *flags, *defines, "-c", str(source), "-o", objects[-1]]
            subprocess.run(command, check=True)
        dispatch = str(root / FOLDER / "dispatch.c")
        partial = Path(folder, library.name)
        subprocess.run(
            [*compiler, *options, "-shared", dispatch, *objects, "-o", str(partial)], check=True
        )
        # A running process keeps the file that it has mapped.
        target = library.with_suffix(".partial")
        shutil.copy(partial, target)
        os.replace(target, library)
    return library


class NativeBuildHook(BuildHookInterface):
    """Add the compiled library to wheels and to editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library; without a compiler, build a package of Python alone."""
        try:
            compile_library(Path(self.root))
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"hpcembed is built without native passes: {error}")
            return
        build_data["artifacts"].append(f"/{LIBRARY.as_posix()}")
        build_data["pure_python"] = False
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{tag}"


if __name__ == "__main__":
    print(compile_library(Path(__file__).parent), file=sys.stderr)
