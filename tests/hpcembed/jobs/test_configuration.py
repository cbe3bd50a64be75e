"""Job files: what is read, what is refused and how it is said."""

import pytest
from mpi4py import MPI

from hpcembed.jobs.compress.command import CompressRequest
from hpcembed.jobs.configuration import JobConfig, load_job
from hpcembed.jobs.job import prepare
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import to_toml


@pytest.fixture
def job_file(tmp_path):
    def write(text):
        path = tmp_path / "job.toml"
        path.write_text(text)
        return path

    return write


def test_empty_job_is_all_defaults(job_file):
    assert load_job(job_file("")) == JobConfig()


def test_values_and_overrides(job_file):
    path = job_file('[data]\ntrain = "a.csv"\n[solver]\ntol = 1\n[classifier]\nhidden = ["low"]\n')
    job = load_job(
        path,
        [
            "solver.tol=1e-9",
            "data.name=plain words",
            "classifier.hidden=[[8, 4], 'large']",
            "output.figures=false",
        ],
    )
    assert job.data.train == ("a.csv",)
    assert job.solver.tol == 1e-9
    assert job.data.name == "plain words"
    assert job.classifier.hidden == ((8, 4), "large")
    assert job.output.figures is False


def test_resolved_job_reads_back_the_same(job_file):
    awkward = '[data]\nname = "a\\"b\\\\c"\ntrain = ["x y", "z"]\n[solver]\nnested = [3, 5]\n'
    job = load_job(job_file(awkward))
    assert job.data.name == 'a"b\\c'
    assert load_job(job_file(to_toml(job))) == job


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[data]\nlabl_column = 'x'",
            "unknown key data.labl_column; did you mean data.label_column?",
        ),
        ("[classifer]\n", "unknown key classifer; did you mean classifier?"),
        ("[study]\n", "this is a study file: use hpcembed study"),
        ("[training]\nepoch = 3", "unknown key training.epoch; did you mean training.epochs?"),
        ("[classifier]\nepochs = 3", "classifier.epochs; did you mean training.epochs?"),
        ("[training]\nn_components = 3", "did you mean embedding.n_components?"),
        ("zzz = 1", "unknown key zzz; known keys: data, embedding"),
        ("data = 3", "data is a section"),
        ("[data]\nformat = 'cvs'", "'cvs' is not one of .*did you mean csv"),
        ("[solver]\ntol = 'small'", "solver.tol: expected float, got 'small'"),
        ("[solver]\nmax_it = true", "solver.max_it: expected int, got True"),
        ("[solver]\nmax_it = 0", r"solver.max_it must lie between 1 and 2\^31 - 1, got 0"),
        ("[solver]\nnested = [5, 3]", "increasing list"),
        ("[embedding]\nn_components = 0", "embedding.n_components must lie between 1 and"),
        ("[embedding]\nmethod = 'pcs'", "embedding.method: 'pcs' is not one of .*mean pca"),
        ("[classifier]\nhidden = ['huge']", "'huge' is not one of large, medium"),
        ("[classifier]\nhidden = [[8, 0]]", "widths must be positive"),
        ("[training]\ndropout = 1.0", r"training.dropout must lie in \[0, 1\), got 1.0"),
        ("[data]\ntest_fraction = 1.5", "test_fraction must lie between 0 and 1, got 1.5"),
        ("[data\n", "not valid TOML"),
        ("[data]\ndivisor = nan", "data.divisor must be a finite number"),
        ("[training]\nweight_decay = inf", "training.weight_decay must be a finite number"),
        ("[solver]\nseed = -1", r"solver.seed must lie between 0 and 2\^63 - 1, got -1"),
        (
            "[classifier]\nseed = 9223372036854775808",
            r"classifier.seed must lie between 0 and 2\^63",
        ),
        (
            "[data]\nsplit = 'sklearn'\nsplit_seed = 4294967296",
            "split_seed must lie between 0 and 2.32 - 1 with data.split = sklearn",
        ),
        ("[solver]\nmax_it = 100_000_000_000", r"solver.max_it must lie between 1 and 2\^31 - 1"),
        ("[resources]\nmemory_gib = inf", "memory_gib must be a finite number"),
        ("[resources]\nmemory_gib = 1e300", "memory_gib must be 0 .no limit. or lie between"),
        ("[resources]\nmemory_gib = 1e-12", "memory_gib must be 0 .no limit. or lie between"),
        ("[resources]\nthreads = 1_000_000", "threads must lie between"),
        ("[classifier]\nhidden = [[60_000, 60_000]]", "60000-60000 have 3.6e.09 parameters"),
        ("[classifier]\nhidden = [[1_000_000_000_000]]", "choose smaller widths"),
        ("[data]\nname = '../../x'", "printable characters without /"),
        ('[data]\nname = "a\\u0007"', "printable characters without /"),
    ],
)
def test_refusals_name_file_and_key(job_file, text, message):
    path = job_file(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_job(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\x93NUMPY\xff", b"# 12\n" * 2**18, None])
def test_data_in_the_place_of_a_job(tmp_path, content):
    path = tmp_path / "my data.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match="for a data file or folder") as caught:
        load_job(path)
    assert str(caught.value).endswith(
        f"; for a data file or folder, `hpcembed init '{path}'` writes a job"
    )
    damaged = tmp_path / "job.TOML"
    path.rename(damaged)
    with pytest.raises(ConfigError) as caught:
        load_job(damaged)
    assert "hpcembed init" not in str(caught.value)


@pytest.mark.parametrize("override", ["solver", "solver.tol", "tol=1", ".tol=1", "solver.=1"])
def test_override_that_is_none(job_file, override):
    with pytest.raises(ConfigError, match=r"write --set section.key=value"):
        load_job(job_file(""), [override])


def test_missing_job_file(tmp_path):
    with pytest.raises(ConfigError, match="give the path of a job file"):
        load_job(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "override",
    [
        "training.keep='last'",
        "training.initial='glorot'",
        "training.centred=false",
    ],
)
def test_keys_of_the_recipe_that_a_run_does_not_obey(job_file, override):
    path, key = job_file(""), override.partition("=")[0]
    assert load_job(path, [override])
    with pytest.raises(ConfigError, match=f"job.toml: {key} has no effect in hpcembed run"):
        prepare(path, [override], None, None, MPI.COMM_SELF)


def test_the_key_of_the_recipe_that_compress_does_not_obey(job_file):
    path = job_file("[training]\npatience = 3\n")
    assert CompressRequest(path, 1.0).job().training.patience == 3
    with pytest.raises(ConfigError, match=r"training.centred has no effect in hpcembed compress"):
        CompressRequest(path, 1.0, overrides=("training.centred=false",)).job()


def test_a_single_value_is_a_list_of_one(job_file):
    job = load_job(job_file("[training]\ndropout = 0.5\n[solver]\nnested = 30\n"))
    assert job.training.dropout == (0.5,)
    assert job.solver.nested == (30,)
