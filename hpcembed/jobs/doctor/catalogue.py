"""All findings of ``hpcembed doctor``: level, text and remedy.

``docs/troubleshooting.md`` lists them for users; a test compares both. Words in braces are values.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["FINDINGS", "Entry"]


class Entry(NamedTuple):
    """Level, text and remedy of a finding."""

    level: Literal["OK", "WARNING", "ERROR"]
    text: str
    remedy: str = ""


_CONDA = "conda install -c conda-forge mpi4py petsc4py slepc4py"

FINDINGS: dict[str, Entry] = {
    # ------------------------------------------------------------------------------------ packages
    "python": Entry("OK", "hpcembed {hpcembed}, Python {python}, numpy {numpy}"),
    "job-part-missing": Entry(
        "WARNING",
        "without {packages}, models are loaded and rows are predicted, but no job runs",
        "{command}",
    ),
    "optional-part-missing": Entry(
        "OK", "the optional part {extra} is not installed ({packages})", "{command}"
    ),
    "optional-parts": Entry("OK", "optional parts that are installed: {extras}"),
    "package-broken": Entry(
        "ERROR",
        "{package} is installed, but cannot be imported: {error}",
        "reinstall it: {command}",
    ),
    "numpy-too-new": Entry(
        "ERROR",
        "{package} is compiled for numpy 1, and numpy {numpy} is installed",
        'pip install "numpy<2", or install a {package} that is compiled for numpy 2',
    ),
    "torch": Entry("OK", "torch {version}, {devices}"),
    "torch-too-old": Entry(
        "ERROR",
        "torch {version} does not work with numpy {numpy}",
        'pip install "torch>=2.3", or "numpy<2"',
    ),
    "gpu-unused": Entry(
        "WARNING",
        "this machine has an NVIDIA GPU, but torch {version} does not find it",
        "install the CUDA build of torch that fits the driver (https://pytorch.org/get-started)",
    ),
    # ----------------------------------------------------------------------------------------- MPI
    "mpi": Entry("OK", "{library}, mpi4py {mpi4py}; PETSc {petsc} uses the same MPI"),
    "separate-worlds": Entry(
        "ERROR",
        "the launcher started {launched} processes, but each is a separate MPI job of 1 rank: "
        "mpiexec and mpi4py use different MPI libraries (mpi4py: {library})",
        "use the mpiexec of the MPI of mpi4py; under SLURM, srun --mpi=pmix or --mpi=pmi2",
    ),
    "no-mpi4py-for-launcher": Entry(
        "ERROR",
        "the launcher started {launched} processes, but mpi4py cannot be used here",
        f"{_CONDA}, or start one process without a launcher",
    ),
    "no-mpi-library": Entry(
        "ERROR", "mpi4py finds no MPI library", f"install an MPI, for example by {_CONDA}"
    ),
    "two-mpi-libraries": Entry(
        "ERROR",
        "mpi4py and PETSc are built for different MPI libraries: {libraries}",
        f"install both from one source: {_CONDA}; or rebuild mpi4py with the mpicc of PETSc: "
        "MPICC=... pip install --force-reinstall --no-binary=mpi4py mpi4py",
    ),
    "import-crash": Entry(
        "ERROR",
        "the import of {package} ends the process ({reason})",
        "install mpi4py, petsc4py and slepc4py from one source, for the same MPI library: "
        f"{_CONDA}",
    ),
    "import-hangs": Entry(
        "ERROR",
        "the import of {package} did not end in {seconds} s",
        "copy the environment to a local disk; check the network options of the MPI",
    ),
    "release-pair": Entry(
        "ERROR",
        "{first} {first_version} and {second} {second_version} are of different releases",
        "install versions of {first} and {second} with equal first two numbers",
    ),
    "scalar-type": Entry(
        "ERROR",
        "PETSc has scalars of type {type}; hpcembed needs real scalars in double precision",
        'use such a build: conda install -c conda-forge "petsc=*=*real*", or '
        "./configure --with-scalar-type=real --with-precision=double",
    ),
    "hosts-differ": Entry(
        "ERROR",
        "{package} has several versions on the hosts of this job: {versions}",
        "activate the same environment on all hosts",
    ),
    # ------------------------------------------------------------------------------ cores, threads
    "cores": Entry("OK", "{cores} for {ranks} with {threads} each ({limit})"),
    "too-many-threads": Entry(
        "WARNING",
        "{ranks} with {threads} each compete for {cores} ({limit})",
        "export OMP_NUM_THREADS={share}",
    ),
    "too-many-ranks": Entry(
        "WARNING",
        "{ranks} share {cores} ({limit})",
        "start at most {count} ranks on this host; if it has more cores, request them "
        "(--cpus-per-task, --bind-to none)",
    ),
    "narrow-binding": Entry(
        "WARNING",
        "a rank with {threads} is bound to {cores}",
        "mpiexec --bind-to none, mpiexec --map-by slot:PE={count}, or srun --cpus-per-task={count}",
    ),
    # -------------------------------------------------------------------------------------- memory
    "memory": Entry("OK", "{available} are available to each rank (limit: {limit})"),
    "low-memory": Entry(
        "WARNING",
        "only {available} are available to each rank (limit: {limit})",
        "{advice}",
    ),
    "small-shared-memory": Entry(
        "WARNING",
        "/dev/shm has only {free} for {ranks}; MPI and torch exchange data there",
        "start the container with --ipc=host or --shm-size=2g, or ask for a larger /dev/shm",
    ),
    # ------------------------------------------------------------------------------- output folder
    "output": Entry("OK", "{rate}/s are written to {folder}, {free} are free"),
    "output-slow": Entry(
        "WARNING",
        "only {rate}/s are written to {folder}",
        "write to a parallel or local file system: --out FOLDER",
    ),
    "output-full": Entry(
        "WARNING", "only {free} are free in {folder}", "free space, or choose --out FOLDER"
    ),
    "output-not-writable": Entry(
        "ERROR", "{folder}: cannot write: {error}", "choose a folder of yours: --out FOLDER"
    ),
    # ---------------------------------------------------------------------------------------- BLAS
    "blas": Entry("OK", "{rate} GFLOP/s per core by {library}; expected: {expected} ({reason})"),
    "blas-slow": Entry(
        "WARNING",
        "only {rate} GFLOP/s per core by {library}; expected: {expected} ({reason})",
        "install numpy with OpenBLAS or MKL (pip and conda do), and unset OPENBLAS_CORETYPE",
    ),
    "blas-kernel": Entry(
        "WARNING",
        "{library} reaches {used} operations per cycle, of {possible} of this processor",
        "{advice}",
    ),
    "blas-unknown": Entry(
        "WARNING",
        "numpy uses no optimised BLAS that threadpoolctl recognises",
        "install numpy with OpenBLAS or MKL: pip install --force-reinstall numpy",
    ),
    # ----------------------------------------------------------------------------- compiled passes
    "compiled-passes": Entry("OK", "compiled passes for {instructions}; the processor has {all}"),
    "compiled-passes-missing": Entry(
        "WARNING",
        "hpcembed was built without compiled passes: passes over the rows use numpy",
        "install a C compiler, then pip install --force-reinstall --no-deps --no-binary=hpcembed "
        "hpcembed; in a source tree: python hatch_build.py",
    ),
    "compiled-passes-broken": Entry(
        "WARNING",
        "the compiled passes cannot be loaded: {error}",
        "rebuild them on this machine: pip install --force-reinstall --no-deps "
        "--no-binary=hpcembed hpcembed",
    ),
    "compiled-passes-off": Entry(
        "WARNING",
        "HPCEMBED_NATIVE={value} selects slower passes than {best}",
        "unset HPCEMBED_NATIVE",
    ),
    "compiled-passes-unknown": Entry("ERROR", "{error}", "unset HPCEMBED_NATIVE"),
    # ---------------------------------------------------------------------------------- smoke test
    "smoke-test": Entry("OK", "{ranks} solved an eigenproblem in {seconds} s"),
    "no-launcher": Entry(
        "WARNING",
        "no mpiexec for {library} was found{others}: jobs run on one rank",
        "put the mpiexec of this MPI on the PATH, set MPIEXEC, or use srun",
    ),
    "smoke-test-failed": Entry(
        "ERROR",
        "an eigenproblem on {ranks} failed: {error}",
        "correct the errors above; then run: {command}",
    ),
    "smoke-test-wrong": Entry(
        "ERROR",
        "an eigenproblem on {ranks} has an error of {error} in its eigenvalues",
        "check BLAS and PETSc: run PETSc's own tests (make check), then reinstall",
    ),
    "smoke-test-hangs": Entry(
        "ERROR",
        "an eigenproblem on {ranks} did not end in {seconds} s",
        "try: {command}; check firewall and network options of the MPI (Open MPI: --mca btl "
        "self,vader,tcp; MPICH: FI_PROVIDER=tcp)",
    ),
    "check-failed": Entry(
        "ERROR",
        "the check of {part} failed: {error}",
        "report this line, it is a defect of hpcembed doctor",
    ),
}
