"""BLAS of numpy and SciPy: library, kernel, and measured rate beside that of the processor.

The expected rate of a core is clock x vector width x 2 (multiply and add) x 2 (units), all from
``/proc/cpuinfo``. AMD's processors of family 25 (Zen 4) compute 512 bits in two cycles. The clock
of a virtual machine is often that without boost: measured rates may be higher.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcembed.jobs.doctor.child_process import PYTHON, run_words
from hpcembed.jobs.doctor.finding import Finding, found

__all__ = ["Processor", "check_blas", "kernel_operations", "processor", "run_probe"]

_LIMIT = 60.0
#: Share of the expected rate below which the library is reported.
_SHARE = 0.4

#: Bits of the vectors of OpenBLAS's kernels for x86, in lower case; those without FMA negative.
_KERNEL_BITS = {
    **dict.fromkeys(("skylakex", "cooperlake", "sapphirerapids"), 512),
    **dict.fromkeys(("haswell", "zen"), 256),
    **dict.fromkeys(("piledriver", "steamroller", "excavator"), 128),
    **dict.fromkeys(("sandybridge", "bulldozer"), -256),
    **dict.fromkeys(("prescott", "core2", "penryn", "dunnington", "nehalem", "atom"), -128),
    **dict.fromkeys(("athlon", "opteron", "barcelona", "bobcat", "katmai", "generic"), -128),
}


@dataclass(frozen=True, slots=True)
class Processor:
    """The vector unit of a core.

    Attributes
    ----------
    bits : int
        Width of a vector; 0 if unknown.
    has_fma : bool
        Whether a product is added in the same instruction.
    halves_512 : bool
        Whether vectors of 512 bits take two cycles.
    ghz : float
        Clock; 0 if unknown.
    """

    bits: int
    has_fma: bool
    halves_512: bool
    ghz: float

    def operations(self, bits: int, has_fma: bool) -> int:
        """Return operations on doubles per cycle with vectors of some width."""
        bits, has_fma = min(bits, self.bits), has_fma and self.has_fma
        if bits == 512 and self.halves_512:
            bits = 256
        # two units: both multiply and add, or one multiplies and the other one adds
        return bits // 64 * (4 if has_fma else 2)

    @property
    def expected(self) -> float:
        """Operations per second of a core; 0 if unknown."""
        return self.operations(self.bits, self.has_fma) * self.ghz * 1e9


def processor(root: Path = Path("/")) -> Processor:
    """Return the vector unit of the first core.

    Parameters
    ----------
    root : Path
        Root of the file system; another one in tests.
    """
    text = ""
    with suppress(OSError):
        text = (root / "proc/cpuinfo").read_text()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    widths = {"avx512f": 512, "avx": 256, "sse2": 128, "asimd": 128}
    bits = next((width for flag, width in widths.items() if flag in flags), 0)
    is_zen4 = fields.get("vendor_id") == "AuthenticAMD" and fields.get("cpu family") == "25"
    return Processor(bits, bool({"fma", "asimd"} & flags), is_zen4, _clock(text, fields, root))


def _clock(text: str, fields: Mapping[str, str], root: Path) -> float:
    """Return GHz: the clock of the name of the processor, or the largest of its cores."""
    named = re.search(r"@ ([\d.]+)\s*GHz", fields.get("model name", ""))
    if named:
        return float(named[1])
    clocks = [float(value) for value in re.findall(r"^cpu MHz\s*: ([\d.]+)", text, re.MULTILINE)]
    if clocks:
        return max(clocks) / 1000
    with suppress(OSError, ValueError):
        maximum = root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
        return int(maximum.read_text()) / 1e6
    return 0.0


def kernel_operations(architecture: str, core: Processor) -> int | None:
    """Return operations per cycle of a kernel of OpenBLAS; None for an unknown kernel.

    Examples
    --------
    >>> zen4 = Processor(bits=512, has_fma=True, halves_512=True, ghz=3.0)
    >>> [kernel_operations(name, zen4) for name in ("SkylakeX", "Haswell", "Prescott", "new")]
    [16, 16, 4, None]
    """
    bits = _KERNEL_BITS.get(architecture.lower())
    return None if bits is None else core.operations(abs(bits), bits > 0)


def run_probe() -> dict[str, Any]:
    """Return the facts that the probe prints.

    Raises
    ------
    OSError
        The probe failed.
    """
    variables = ("OPENBLAS", "OMP", "MKL", "BLIS", "GOTO", "VECLIB")
    one_thread = {f"{name}_NUM_THREADS": "1" for name in variables}
    words = [*PYTHON, "-m", "hpcembed.jobs.doctor.blas_probe"]
    ended = run_words(words, _LIMIT, one_thread)
    if ended.status != 0:
        how = f"no end after {_LIMIT:.0f} s" if ended.status is None else ended.reason
        raise OSError(f"{' '.join(words[1:])}: {how}")
    facts: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    return facts


def check_blas(probe: Mapping[str, Any], core: Processor) -> list[Finding]:
    """Return findings about the facts of :func:`run_probe`."""
    findings = []
    for fact in probe["facts"]:
        library = fact["libraries"][0] if fact["libraries"] else None
        if library is None and probe["recognises"]:
            findings.append(found("blas-unknown"))
        name = f"{_name(library)} ({fact['user']})"
        words = {
            "library": name,
            "rate": f"{fact['rate'] / 1e9:.1f}",
            "expected": f"{core.expected / 1e9:.1f}" if core.expected else "unknown",
            "reason": _reason(core),
        }
        is_slow = fact["rate"] < _SHARE * core.expected
        findings.append(found("blas-slow" if is_slow else "blas", **words))
        findings += _kernel(library, name, core)
    return findings


def _kernel(library: Mapping[str, Any] | None, name: str, core: Processor) -> list[Finding]:
    """Return a finding if the kernel uses a part of the vector unit."""
    if library is None or library["internal_api"] != "openblas":
        return []
    used = kernel_operations(library.get("architecture") or "", core)
    possible = core.operations(core.bits, core.has_fma)
    if used is None or used >= possible:
        return []
    if "OPENBLAS_CORETYPE" in os.environ:
        advice = "unset OPENBLAS_CORETYPE"
    else:
        advice = "install a newer OpenBLAS: pip install --upgrade numpy scipy"
    return [found("blas-kernel", library=name, used=used, possible=possible, advice=advice)]


def _name(library: Mapping[str, Any] | None) -> str:
    if library is None:
        return "an unknown BLAS"
    names = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}
    name = f"{names.get(library['internal_api'], library['internal_api'])} {library['version']}"
    kernel = library.get("architecture")
    return f"{name}, kernel {kernel}" if kernel else name


def _reason(core: Processor) -> str:
    if not core.expected:
        return "clock or vector unit unknown"
    operations = core.operations(core.bits, core.has_fma)
    return f"{core.ghz:.2f} GHz x {operations} operations, vectors of {core.bits} bits"
