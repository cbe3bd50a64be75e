"""A study's file: recipes, overrides, and what is refused in one line."""

import pytest

from hpcembed.jobs.study.settings import image_shape, job_of, load_study
from hpcembed.networks.training.recipe import RECIPES
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.settings import to_toml


@pytest.fixture
def study(tmp_path):
    def write(text=""):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return path

    return write


def test_training_changes_single_values_of_the_recipe(study):
    path = study('[study]\nrecipe = "published"\n[training]\nepochs = 7\n')
    loaded = load_study(path, ["training.batch_size=32"])
    published = RECIPES["published"]
    assert (loaded.training.epochs, loaded.training.batch_size) == (7, 32)
    assert loaded.training.learning_rate == published.learning_rate
    assert loaded.training.dropout == (0.25,)
    assert loaded.training.keep == "last"
    assert not loaded.training.centred
    assert load_study(path, ["study.recipe=default"]).training.keep == "best"


def test_each_recipe_may_have_values_of_its_own(study):
    path = study("[training.published]\nepochs = 7\nrefit = true\n[training.default]\nepochs = 9\n")
    default = load_study(path)
    assert (default.training.epochs, default.training.refit) == (9, False)
    published = load_study(path, ["study.recipe=published"])
    assert (published.training.epochs, published.training.refit) == (7, True)
    assert load_study(path, ["training.epochs=3"]).training.epochs == 3


def test_dimensions_that_are_not_given(study):
    loaded = load_study(study("[study]\nn_components = 50\n"))
    assert loaded.dimensions[:16] == tuple(range(1, 17))
    assert loaded.dimensions[16:] == (19, 23, 28, 34, 41, 49, 50)
    assert load_study(study("[study]\nn_components = 1\n")).dimensions == (1,)
    given = load_study(study("[study]\ndimensions = [5, 2, 5]\nfirst_seed = 3\nseeds = 2\n"))
    assert given.dimensions == (2, 5)
    assert given.seeds == (3, 4)
    assert job_of(given).embedding.n_components == 5


def test_it_is_written_and_read_back(study, tmp_path):
    loaded = load_study(study('[study]\nnetworks = ["low", [8, 4]]\n[training]\npatience = 3\n'))
    path = tmp_path / "again.toml"
    path.write_text(to_toml(loaded))
    assert load_study(path) == loaded


def test_the_embedding_is_handed_on(study, tmp_path):
    text = '[embedding]\nmethod = "svd"\nengine = "block"\n[study]\ndimensions = [3, 7]\n'
    loaded = load_study(study(text))
    job = job_of(loaded)
    assert (job.embedding.method, job.embedding.engine) == ("svd", "block")
    assert job.embedding.n_components == 7
    path = tmp_path / "again.toml"
    path.write_text(to_toml(loaded))
    assert load_study(path) == loaded


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[study]\nseed = 3\n", "unknown key study.seed; did you mean study.seeds"),
        ("[study]\nseeds = 0\n", "study.seeds must lie between 1 and 10000"),
        ("[study]\ndimensions = [0]\n", r"study.dimensions must lie between 1 and 2\^20, got 0"),
        ("[study]\nnetworks = []\n", "study.networks must not be empty"),
        ('[study]\nnetworks = ["tiny"]\n', "study.networks: 'tiny' is not one of large"),
        ("[study]\nembeddings = []\n", "study.embeddings must not be empty"),
        ('[study]\nembeddings = ["pca"]\n', "'pca' is not one of spectral, whitened"),
        ("[study]\nmargin = -1\n", "study.margin must not be negative"),
        ("[study]\nconfidence = 1.0\n", "study.confidence must lie between 0 and 1"),
        ('[study]\nrecipe = "own"\n', "'own' is not one of default, published"),
        ("[training]\nepochs = -1\n", r"training.epochs must lie between 0 and 2\^31 - 1, got -1"),
        ("[training]\ndropout = [0.1, 0.2, 0.3]\n", "3 numbers for 2 hidden layers"),
        ("[training.published]\nepoch = 1\n", "unknown key epoch; did you mean epochs"),
        ("[training.own]\nepochs = 1\n", "unknown key training.own"),
        ("training = 3\n", "training is a section"),
        ("study = 3\n", "study is a section"),
        ("[solver]\ntol = 2.0\n", "solver.tol must lie between 0 and 1"),
        ("[classifier]\n", r"\[classifier\]: a study has study.networks.*init DATA --study"),
        (
            "[embedding]\nn_components = 3\n",
            "n_components: a study has study.dimensions.*init DATA --study",
        ),
        ('[embedding]\nmethod = "svdd"\n', "embedding.method: 'svdd' is not one of .*mean svd"),
        ("embedding = 3\n", "embedding is a section"),
    ],
)
def test_what_is_refused(study, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_study(study(text))
    assert "study.toml" in str(caught.value) or "hidden layers" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shape_of_images(study):
    assert image_shape(load_study(study('[data]\nformat = "digits"\n')), 64) == (8, 8)
    assert image_shape(load_study(study('[data]\nformat = "idx"\n')), 784) == (28, 28)
    assert image_shape(load_study(study('[data]\nformat = "idx"\n')), 700) == ()
    assert image_shape(load_study(study('[data]\nformat = "cifar10"\n')), 3072) == (3, 32, 32)
    assert image_shape(load_study(study('[data]\nformat = "csv"\n')), 64) == ()
    given = load_study(study("[study]\nimage_shape = [3, 4, 5]\n"))
    assert image_shape(given, 60) == (3, 4, 5)
    for shape, n_features in (("[4, 5]", 21), ("[60]", 60), ("[2, 5, 6]", 60)):
        wrong = load_study(study(f"[study]\nimage_shape = {shape}\n"))
        with pytest.raises(ConfigError, match=f"is not an image of {n_features} features"):
            image_shape(wrong, n_features)
