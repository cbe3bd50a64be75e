#!/usr/bin/env bash
# Run tests: scripts/test.sh TIER ENV [options of pytest...]
#
# TIER is one of
#   quick     tests that are neither slow nor start MPI jobs, and the examples in docstrings
#   all       all tests and examples on one rank, then the tests marked `mpi` on more ranks
#   kernels   tests of solver, operators and embeddings with several kernels of OpenBLAS
#
# Tests on one rank are shared by several processes (pytest-xdist). The tests of one number of ranks
# run in one MPI job, which an exception on any rank ends. Each job has a time limit.
#
#   TEST_PROCESSES   number of processes for tests on one rank (default: cores, at most 8)
#   TEST_RANKS       numbers of ranks (default: 2 3)
#   TEST_KERNELS     kernels and numbers of BLAS threads (default: each kernel with 1 and 2 threads)
#   TEST_TIMEOUT     time limit of each job in seconds (default: 1800)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tier=$1
env=$(cd "$2" && pwd)
shift 2
python=$env/bin/python
# shellcheck source=scripts/mpi_env.sh
source "$root/scripts/mpi_env.sh"
cd "$root"

# Processes that a test starts use this environment and its MPI.
export VIRTUAL_ENV=$env PATH=$env/bin:$PATH
mpi_select "$python"
# The matrices of the tests are too small for more threads.
export OMP_NUM_THREADS=1
mpi_threads 1
# Waiting threads of PyTorch sleep. If they spin and other processes use the cores, training of a
# small network takes 15 times as long.
export OMP_WAIT_POLICY=passive
# A test may start more ranks than there are cores: options of Open MPI 4 and 5.
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
# Ranks that wait give their core to others (measured on a busy machine: 10 s instead of minutes).
export OMPI_MCA_mpi_yield_when_idle=1

# Open MPI gives its ranks a terminal even where there is none.
if [[ ! -t 1 ]]; then set -- --color=no "$@"; fi

# limited TITLE COMMAND...: run a command under the time limit
limited() {
    local title=$1 status=0 begin=$SECONDS seconds=${TEST_TIMEOUT:-1800}
    shift
    echo "==> $title"
    if command -v timeout >/dev/null; then
        timeout --kill-after=15 "$seconds" "$@" || status=$?
    else
        "$@" || status=$?
    fi
    if ((status == 124 || status == 137)); then
        echo "==> $title: stopped after $seconds s (TEST_TIMEOUT)" >&2
    fi
    echo "==> $title: $((SECONDS - begin)) s, status $status"
    return "$status"
}

# on_one_rank TITLE PROCESSES OPTIONS...: pytest in several processes
on_one_rank() {
    local title=$1 processes=$2
    shift 2
    limited "$title" "$python" -m pytest -q -n "$processes" \
        --dist loadgroup --no-loadscope-reorder "$@"
}

processes=$(mpi_cores)
if ((processes > 8)); then processes=8; fi
processes=${TEST_PROCESSES:-$processes}
everything=(--doctest-modules tests hpcembed solvers/miramns)

# kernel_flags KERNEL: flags of the processor (as in /proc/cpuinfo) that a kernel of OpenBLAS needs
kernel_flags() {
    case $1 in
    Prescott) echo "pni" ;;
    Haswell | Zen) echo "avx2 fma" ;;
    SkylakeX) echo "avx512f avx512dq avx512bw avx512vl" ;;
    *) echo "unknown-kernel" ;;
    esac
}

# kernel_problem KERNEL: print the reason why this machine cannot use a kernel, if there is one
kernel_problem() {
    local flag kernel=$1
    for flag in $(kernel_flags "$kernel"); do
        if ! grep -m 1 '^flags' /proc/cpuinfo 2>/dev/null | grep -qw "$flag"; then
            echo "the processor has no $flag"
            return
        fi
    done
    OPENBLAS_CORETYPE=$kernel "$python" "$root/scripts/blas_kernels.py" "$kernel"
}

test_kernels() {
    local kernel threads problem each failed=() ran=0
    local matrix=${TEST_KERNELS:-Prescott:1 Prescott:2 Haswell:1 Haswell:2 Zen:1 Zen:2
        SkylakeX:1 SkylakeX:2}
    for kernel in $matrix; do
        threads=${kernel#*:}
        kernel=${kernel%:*}
        problem=$(kernel_problem "$kernel")
        if [[ -n $problem ]]; then
            echo "==> kernel $kernel: skipped, $problem"
            continue
        fi
        ran=$((ran + 1))
        each=$(((processes + threads - 1) / threads))
        # Threads that wait stop spinning soon: cores are shared with other processes.
        OPENBLAS_CORETYPE=$kernel OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads \
            OPENBLAS_THREAD_TIMEOUT=20 \
            on_one_rank "kernel $kernel, $threads thread(s)" "$each" \
            -m "not launch and not slow" --ignore-glob "tests/miramns/*bench*" \
            tests/miramns tests/hpcembed/embedding tests/hpcembed/operators "$@" ||
            failed+=("$kernel:$threads")
    done
    echo "==> kernels: $ran run, ${#failed[@]} failed ${failed[*]-}"
    ((${#failed[@]} == 0))
}

case $tier in
quick)
    # the durations show tests that should be marked slow
    on_one_rank "quick tests" "$processes" -m "not launch and not slow" \
        --durations 10 --durations-min 3 "${everything[@]}" "$@"
    ;;
kernels) test_kernels "$@" ;;
all)
    on_one_rank "one rank" "$processes" "${everything[@]}" "$@"
    for ranks in ${TEST_RANKS:-2 3}; do
        mpi_command "$ranks"
        export HPCEMBED_TEST_RANKS=$ranks
        limited "$ranks ranks" "${MPI_COMMAND[@]}" "$python" -m mpi4py -m pytest -q -x -m mpi "$@"
    done
    ;;
*)
    echo "usage: scripts/test.sh quick|all|kernels ENV [options of pytest...]" >&2
    exit 2
    ;;
esac
