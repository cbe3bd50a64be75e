"""Printed views of a MIRAMns object and its results, in the formats of EPS."""

from __future__ import annotations

from typing import Any

from petsc4py import PETSc
from slepc4py import SLEPc

_EPS = SLEPc.EPS
_WHICH = {value: name for name, value in vars(_EPS.Which).items() if name.isupper()}
_PROBLEM = {
    _EPS.ProblemType.HEP: "symmetric eigenvalue problem",
    _EPS.ProblemType.GHEP: "generalized symmetric eigenvalue problem",
    _EPS.ProblemType.NHEP: "non-symmetric eigenvalue problem",
    _EPS.ProblemType.GNHEP: "generalized non-symmetric eigenvalue problem",
}
_TESTS = {
    _EPS.Conv.ABS: "absolute",
    _EPS.Conv.REL: "relative to the eigenvalue",
    _EPS.Conv.NORM: "relative to the eigenvalue and matrix norms",
}
_ERRORS = {
    "absolute": _EPS.ErrorType.ABSOLUTE,
    "relative": _EPS.ErrorType.RELATIVE,
    "backward": _EPS.ErrorType.BACKWARD,
}
_LINE = " ---------------------- --------------------"


def _print(eps: Any, viewer: PETSc.Viewer | None, text: str) -> None:
    (viewer or PETSc.Viewer.STDOUT(eps.getComm())).printfASCII(text + "\n")


def _number(value: complex | float, form: str = ".5f") -> str:
    if value.imag:
        return f"{value.real:{form}}{value.imag:+{form}}i"
    return f"{value.real:{form}}"


def view_settings(eps: Any, viewer: PETSc.Viewer | None = None) -> None:
    """Print the settings. Collective."""
    nev, ncv, _mpd = eps.getDimensions()
    tol, max_it = eps.getTolerances()
    st = eps.getST()
    lines = [
        f"EPS Object: {eps.getComm().getSize()} MPI process(es)",
        "  type: miramns",
        f"    variant: {eps.getVariant()}, orthogonalization: {eps.getOrthogonalization()}, "
        f"multiplicity check: {eps.getMultiplicityCheck()}, seed: {eps.getSeed()}",
        f"  problem type: {_PROBLEM.get(eps.getProblemType(), 'not yet set')}",
        "  selected portion of the spectrum: "
        + _WHICH.get(eps.getWhichEigenpairs(), "not yet set").lower().replace("_", " "),
        f"  target: {eps.getTarget():g}",
        f"  number of eigenvalues (nev): {nev}",
        f"  number of column vectors (ncv): {ncv if ncv > 0 else 'chosen while running'}",
        f"  maximum number of iterations: {max_it}",
        f"  tolerance: {tol:g}",
        f"  convergence test: {_TESTS[eps.getConvergenceTest()]}",
        f"  spectral transformation: {st.getType() or 'shift'}, shift: {st.getShift():g}",
    ]
    sizes = eps.getNestedSizes()
    if sizes:
        lines.insert(3, f"    nested sizes: {', '.join(map(str, sizes))}")
    _print(eps, viewer, "\n".join(lines))


def view_errors(eps: Any, etype: int | None = None, viewer: PETSc.Viewer | None = None) -> None:
    """Print the errors of the pairs, or that they are within the tolerance. Collective."""
    detail = PETSc.Viewer.Format.ASCII_INFO_DETAIL
    if viewer is not None and viewer.getFormat() == detail:
        _view_errors_in_detail(eps, etype, viewer)
        return
    nev, found = eps.getDimensions()[0], eps.getConverged()
    if found < nev:
        _print(eps, viewer, f" Problem: less than {nev} eigenvalues converged\n")
        return
    tol = eps.getTolerances()[0]
    if any(eps.computeError(i, etype) >= 5 * tol for i in range(nev)):
        text = f" Problem: some of the first {nev} relative errors are higher than the tolerance\n"
        _print(eps, viewer, text)
        return
    values = [_number(eps.getEigenvalue(i)) for i in range(nev)]
    rows = [", ".join(values[i : i + 8]) for i in range(0, nev, 8)]
    title = " All requested eigenvalues computed up to the required tolerance:"
    _print(eps, viewer, "\n     ".join([title, *rows]) + "\n")


def _view_errors_in_detail(eps: Any, etype: int | None, viewer: PETSc.Viewer | None = None) -> None:
    B = "B" if eps.isGeneralized() else ""
    heading = {
        _EPS.ErrorType.ABSOLUTE: f"   ||Ax-k{B}x||",
        _EPS.ErrorType.BACKWARD: "    eta(x,k)",
    }.get(etype, f"||Ax-k{B}x||/||kx||")
    lines = [_LINE, f"            k             {heading}", _LINE]
    for i in range(eps.getConverged()):
        value = _number(eps.getEigenvalue(i), "9f")
        lines.append(f"  {value:>14}      {eps.computeError(i, etype):12.6g}")
    _print(eps, viewer, "\n".join([*lines, _LINE]))


def view_values(eps: Any, viewer: PETSc.Viewer | None = None) -> None:
    """Print the converged eigenvalues. Collective."""
    values = [f"   {_number(eps.getEigenvalue(i))}" for i in range(eps.getConverged())]
    _print(eps, viewer, "\n".join(["Eigenvalues = ", *values, ""]))


def view_vectors(eps: Any, viewer: PETSc.Viewer | None = None) -> None:
    """Print the converged eigenvectors. Collective."""
    if not eps.getConverged():
        return
    real, imaginary = eps.getOperators()[0].createVecs()
    for i in range(eps.getConverged()):
        value = eps.getEigenpair(i, real, imaginary)
        parts = [("Xr" if value.imag else "X", real)] + [("Xi", imaginary)] * bool(value.imag)
        for name, vector in parts:
            vector.setName(f"{name}{i}_{eps.getName()}")
            vector.view(viewer or PETSc.Viewer.STDOUT(eps.getComm()))
    real.destroy()
    imaginary.destroy()


def view_from_options(eps: Any) -> None:
    """Print the views that the options database requests after a solve. Collective."""
    options = PETSc.Options(eps.getOptionsPrefix())

    def requested(name: str) -> str | None:
        for family in ("eps", "miramns"):
            if options.hasName(f"{family}_{name}"):
                return str(options.getString(f"{family}_{name}", ""))
        return None

    if requested("view") is not None:
        view_settings(eps)
        _print(eps, None, eps.result.view())
    if requested("converged_reason") is not None:
        reason = eps.result.reason
        verb = "converged" if reason > 0 else "did not converge"
        text = f" Linear eigensolve {verb} ({eps.getConverged()} eigenpairs) due to {reason.name}"
        _print(eps, None, f"{text}; iterations {eps.getIterationNumber()}")
    for name, etype in _ERRORS.items():
        form = requested(f"error_{name}")
        if form is not None:
            (_view_errors_in_detail if "detail" in form else view_errors)(eps, etype)
    if requested("view_values") is not None:
        view_values(eps)
    if requested("view_vectors") is not None:
        view_vectors(eps)
