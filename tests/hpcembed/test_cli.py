"""Arguments of the command line."""

import os
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest

import hpcembed
from hpcembed import cli
from hpcembed.cli_help import EXAMPLES, EXIT_STATUSES
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


def test_petsc_options_may_be_repeated_and_long():
    words = ["run", "job.toml", "--petsc", "-a", "--set", "a.b=1", "--petsc", "--long_name 3"]
    assert cli._parse(words, rank=0).petsc == "--long_name 3"


EVERY_EXAMPLE = [words for several in EXAMPLES.values() for words, _ in several]


@pytest.mark.parametrize("example", EVERY_EXAMPLE)
def test_examples_of_help_are_accepted(example):
    words = shlex.split(example.partition(" > ")[0])
    if words[-1] == "--help":
        words = words[:-1]
    assert cli._parse(words, rank=0).command


def test_every_command_has_examples_in_its_help(capsys):
    names = next(one for one in cli._parser()._actions if one.choices).choices
    assert set(EXAMPLES) == {"", *names}
    for name in names:
        with pytest.raises(SystemExit):
            cli._parse([name, "--help"], rank=0)
        shown = capsys.readouterr().out
        assert f"  hpcembed {EXAMPLES[name][0][0]}\n" in shown
        assert EXIT_STATUSES in shown


def run_python(*words, **options):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_C", "PM"))}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run([sys.executable, *words], env=kept, text=True, **options)


@pytest.mark.parametrize("option", ["--version", "--help", "--nonsense"])
def test_arguments_are_parsed_without_mpi_and_numpy(option):
    code = (
        "import sys; from hpcembed.cli import main; status = main(sys.argv[1:]);"
        "assert not {'mpi4py', 'numpy', 'petsc4py', 'torch'} & set(sys.modules); sys.exit(status)"
    )
    done = run_python("-c", code, option, capture_output=True)
    assert done.returncode == (2 if option == "--nonsense" else 0), done.stderr
    assert "hpcembed" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["info"], ["init", "fruit.csv"]])
def test_a_closed_pipe_is_no_error(words, tmp_path):
    (tmp_path / "fruit.csv").write_text("mass,kind\n1,fig\n2,pear\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = run_python("-m", "hpcembed", *words, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(find_spec("shtab") is None, reason="shtab is missing")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_files(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "compress-model" in script
    assert "--max-loss" in script or "max-loss" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
