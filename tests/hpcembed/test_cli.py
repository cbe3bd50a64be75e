"""Arguments of the command line."""

import pytest

import hpcembed
from hpcembed import cli
from hpcembed.runtime.errors import ConfigError


@pytest.mark.parametrize("options", ["-eps_view", "-eps_view -log_view", "-eps_tol 1e-9"])
@pytest.mark.parametrize("form", ["separate", "joined"])
def test_petsc_options_are_one_argument(options, form):
    words = ["--petsc", options] if form == "separate" else [f"--petsc={options}"]
    arguments = cli._parse(["run", "job.toml", *words, "--out", "results"], rank=0)
    assert arguments.petsc == options
    assert str(arguments.out) == "results"


def test_petsc_without_options_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli._parse(["run", "job.toml", "--petsc", "--out", "results"], rank=0)
    assert "--petsc: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["eps_view", "1e-9 -eps_tol"])
def test_petsc_options_begin_with_a_hyphen(options):
    with pytest.raises(ConfigError, match=f"--petsc '{options}': .* is not an option"):
        cli._start_petsc(options)


def test_public_names_are_listed():
    assert set(hpcembed.__all__) <= set(dir(hpcembed))
