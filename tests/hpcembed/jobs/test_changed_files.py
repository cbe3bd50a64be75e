"""Files that hpcembed wrote and somebody changed: errors of one line, and nothing is allocated."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

import hpcembed
from fuzzing.formats import formats, write_files
from fuzzing.mutations import json_text
from hpcembed.jobs.completion_folder import load_completion
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.export.model import Model, Stage
from hpcembed.jobs.export.run_export import export_run
from hpcembed.jobs.study.published_accuracies import load_published
from hpcembed.networks.training.serialise import load_classifier
from hpcembed.runtime.errors import ConfigError, HpcembedError, InputError
from hpcembed.runtime.settings import read_overrides


def files_of(name):
    """Return the files of a valid input of a format."""
    return dict(formats()[name].valid(np.random.default_rng(0))[0])


def changed_json(files, name, change):
    content = json.loads(files[name])
    change(content)
    files[name] = json_text(content)
    return files


@pytest.mark.parametrize("text", ["9" * 5000, f"[{'9' * 5000}]", f"-{'9' * 5000}"])
def test_integers_of_thousands_of_digits(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(f"[solver]\ntol = {text}\n")
    with pytest.raises(ConfigError, match=r"job\.toml: not valid TOML"):
        load_job(path)
    assert read_overrides([f"a.b={text}"]) == {"a": {"b": text}}


def set_(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


INFINITE = float("inf")
MODELS = {
    "texts": ("text.json", set_("n_documents", value=INFINITE)),
    "columns": ("columns.json", set_("columns", 0, "n_missing", value=INFINITE)),
    "large": ("columns.json", set_("columns", 0, "fill", value=10**400)),
    "rows": ("model.json", set_("n_features", value=INFINITE)),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_with_numbers_beyond_the_range(name, tmp_path):
    file, change = MODELS[name]
    format = formats()[f"model of {'columns' if name == 'large' else name}"]
    files = changed_json(files_of(format.name), f"model/{file}", change)
    write_files(format.reseal(files), tmp_path)
    with pytest.raises(InputError, match=r"cannot be read|a damaged model"):
        hpcembed.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c/users.csv", b""),
        ("c/users.csv", b"name\n\n\n"),
        ("c/completion.json", b"[]"),
        ("c/completion.json", b"[" * 10**5),
        ("c/completion.json", b'{"rank": Infinity}'),
    ],
)
def test_completed_tables(name, content, tmp_path):
    files = files_of("completed table")
    write_files({**files, name: content}, tmp_path)
    with pytest.raises(InputError, match=r"c: damaged"):
        load_completion(tmp_path / "c")


@pytest.mark.parametrize("content", [b"[" * 10**5, b'{"sets": {"digits": []}}', b"[]"])
def test_published_accuracies(content, tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.json"):
        load_published(path, "digits")


def test_published_widths_beyond_the_range(tmp_path):
    files = files_of("published accuracies")
    change = set_("sets", "digits", "protocol", "hidden", "low", value=[INFINITE])
    write_files(changed_json(files, "published.json", change), tmp_path)
    with pytest.raises(ConfigError, match="not a file of published accuracies"):
        load_published(tmp_path / "published.json", "digits")


def with_tensor(content, name, change):
    """Return a safetensors file with one tensor changed."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = dict(safetensors.numpy.load(content))
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    return safetensors.numpy.save(tensors, metadata)


CHANGES = {
    "flat": ("classifier-embedded-4.safetensors", "layer1.weight", np.ravel),
    "infinite": ("classifier-embedded-4.safetensors", "layer0.bias", lambda a: a * np.inf),
    "variance": ("projection.safetensors", "feature_variances", lambda a: -a - 1),
    "factor": ("projection.safetensors", "scaling_factor", lambda a: a * 0),
    "components": ("projection.safetensors", "components", lambda a: a[:, :-1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_runs_with_changed_tensors_are_not_exported(name, tmp_path):
    file, tensor, change = CHANGES[name]
    files = files_of("run folder")
    files[f"run/{file}"] = with_tensor(files[f"run/{file}"], tensor, change)
    write_files(files, tmp_path)
    with pytest.raises(HpcembedError, match="not a run of this version"):
        export_run(tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_layers_of_any_stated_size_are_not_made(tmp_path):
    content = files_of("network")["network.safetensors"]
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    about = json.loads(metadata["hpcembed"])
    about["hidden"] = [2**40]
    tensors = safetensors.numpy.load(content)
    path = tmp_path / "n.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, {"hpcembed": json.dumps(about)}))
    with pytest.raises(InputError, match=r"not a classifier .*layer0\.weight is not of the stated"):
        load_classifier(path)


def test_models_are_checked():
    stage = Stage(np.ones((2, 3), "f4"), np.zeros(3, "f4"), relu=False)
    Model(np.zeros(2, "f4"), (stage,), ("a", "b", "c")).check()
    for shift, weight, names in (
        (np.zeros(3, "f4"), stage.weight, "abc"),
        (np.zeros(2, "f4"), stage.weight, "ab"),
        (np.zeros(2, "f4"), stage.weight * np.nan, "abc"),
        (np.zeros(2, "f4"), stage.weight[:, :, None], "abc"),
    ):
        with pytest.raises(ValueError, match=r"weights|outputs|NaN"):
            Model(shift, (Stage(weight, stage.bias, relu=False),), tuple(names)).check()


@pytest.mark.parametrize("counts", [[0, 1, 2], [-1, 1, 2], [1, 1, 99]])
def test_vocabularies_with_counts_that_cannot_be(counts, tmp_path):
    change = set_("document_frequencies", value=counts)
    files = changed_json(files_of("model of texts"), "model/text.json", change)
    write_files(formats()["model of texts"].reseal(files), tmp_path)
    with pytest.raises(InputError, match="do not fit the number of documents"):
        hpcembed.load(tmp_path / "model")
