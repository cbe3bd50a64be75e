"""Tables of triplets: files, offsets, the choice of rank and ridge, test errors."""

import gzip
import math

import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.networks.deep_linear import complete_table, read_triplets
from hpcembed.networks.deep_linear.offsets import fit_offsets
from hpcembed.networks.deep_linear.triplets import triplets_from_arrays
from hpcembed.runtime.errors import ConfigError, InputError

FORMATS = {
    "tab": "196\t242\t3\t881250949\n186\t302\t3.5\t891717742\n196\t377\t1\t878887116\n",
    "double": "196::242::3::881250949\n186::302::3.5::891717742\n196::377::1::878887116\n",
    "header": "userId,movieId,rating,timestamp\n196,242,3.0,1\n186,302,3.5,1\n\n196,377,1.0,2\n",
    "bare": "\ufeff196,242,3\r\n186, 302 ,3.5\r\n196,377,1",
    "semicolon": "userId;movieId;rating\n196;242;3\n186;302;3.5\n196;377;1\n",
    "bar": "196|242|3|1\n186|302|3.5|2\n196|377|1|3\n",
    "blank": "196 242 3\n186  302 3.5\n196 377 1\n",
    "tags": "user,item,rating,tags\n196,242,3,x;y;z\n186,302,3.5,x\n196,377,1,\n",
    "quoted": 'user,item,rating,title\n"196",242,3,"a, b"\n186,"302",3.5,c\n196,377,1,d\n',
}


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_formats(text, tmp_path):
    path = tmp_path / "ratings"
    path.write_bytes(text.encode())
    table = read_triplets(path)
    assert table.users == ("196", "186")
    assert table.items == ("242", "302", "377")
    assert table.rows.tolist() == [0, 1, 0]
    assert table.columns.tolist() == [0, 1, 2]
    assert table.values.tolist() == [3.0, 3.5, 1.0]
    assert table.duplicates == 0


def test_gzipped_file_and_given_separator(tmp_path):
    path = tmp_path / "ratings.gz"
    path.write_bytes(gzip.compress(b"a,b\tx\t1\nc\ty\t2\n"))
    assert read_triplets(path, separator="tab").users == ("a,b", "c")
    assert read_triplets(path).users == ("a,b", "c")


def test_header_of_numbers_is_skipped_on_request(tmp_path):
    path = tmp_path / "ratings"
    path.write_text("1,2,3\n1,5,4\n")
    assert len(read_triplets(path).values) == 2
    assert read_triplets(path, header=True).values.tolist() == [4.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2\t3\n1\t3\n", "line 2: 2 columns, where user, item and rating are needed"),
        ("1,2,3\n\n1,3,good\n", "line 3: the rating 'good' is not a finite number"),
        ("1::2::3\n1::3::nan\n", "line 2: the rating 'nan' is not a finite number"),
        ("1,2,3\n,3,4\n", "line 2: the user is empty"),
        ("1,2,3\n1,,4\n", "line 2: the item is empty"),
        ("123\n", "line 1: 1 column, where user, item and rating are needed"),
        ("user,item,rating\n", "no line has a rating"),
        ("u,i,r\nu,i,r\n", "line 2: the rating 'r' is not a finite number"),
        ("\n", "no line has a rating"),
    ],
)
def test_bad_lines_are_named(text, message, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=f"ratings.csv: {message}") as caught:
        read_triplets(path)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_triplets(tmp_path / "none.csv")
    path = tmp_path / "latin"
    path.write_bytes(b"1,2,3\n\xe9,2,3\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_triplets(path)
    with pytest.raises(ConfigError, match="separator = 'space' is not one of"):
        read_triplets(path, separator="space")
    with pytest.raises(InputError, match="line 1: the rating 'rating'"):
        path.write_text("user,item,rating\n1,2,3\n")
        read_triplets(path, header=False)


def test_repeated_pairs_have_their_mean():
    table = triplets_from_arrays([1, 2, 1, 1], ["a", "a", "a", "b"], [1.0, 5.0, 4.0, 3.0])
    assert (table.users, table.items) == (("1", "2"), ("a", "b"))
    assert (table.rows.tolist(), table.columns.tolist()) == ([0, 1, 0], [0, 0, 1])
    assert table.values.tolist() == [2.5, 5.0, 3.0]
    assert table.duplicates == 1
    assert repr(table) == "<Triplets: 3 entries of 2 users and 2 items>"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1], [1, 2], [1.0]), "1 users, 2 items and 1 values"),
        (([1], [1], [np.inf]), "triplet 0: value inf is not finite"),
        (([1], [1], ["x"]), "values are not numbers"),
        (([], [], []), "no triplet is given"),
    ],
)
def test_bad_arrays(arrays, message):
    with pytest.raises(InputError, match=message):
        triplets_from_arrays(*arrays)


def test_offsets_are_stationary():
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 8, 200), rng.integers(0, 6, 200)
    values = rng.standard_normal(200) + rows - 2 * columns
    found = fit_offsets(MPI.COMM_SELF, (8, 6), rows, columns, values)
    assert found.mean == pytest.approx(values.mean())
    rest = values - found.at(rows, columns)
    # damped means: the remainder's sum is damping times the offset
    np.testing.assert_allclose(np.bincount(rows, rest), 15 * found.users, atol=1e-9)
    np.testing.assert_allclose(np.bincount(columns, rest), 10 * found.items, atol=0.05)


def ratings(rng, users=120, items=90, share=0.35, noise=0.3):
    """Offsets, rank 2 and noise; ratings in steps of a half, from 0.5 to 5."""
    seen = np.flatnonzero(rng.random(users * items) < share)
    i, j = np.divmod(seen, items)
    left, right = rng.standard_normal((users, 2)), rng.standard_normal((items, 2))
    values = 3 + 0.5 * rng.standard_normal(users)[i] + 0.5 * rng.standard_normal(items)[j]
    values += 0.7 * np.einsum("ij,ij->i", left[i], right[j]) + noise * rng.standard_normal(len(i))
    return i, j, np.clip(np.round(2 * values) / 2, 0.5, 5)


def test_rank_and_ridge_by_validation():
    table = complete_table(ratings(np.random.default_rng(0)), seed=3)
    n = table.n_training + table.n_validation + table.n_test
    assert table.n_test == round(0.1 * n)
    assert table.n_validation == round(0.1 * (n - table.n_test))
    assert table.rank in (2, 5)
    assert table.ridge > 0
    best = min(table.candidates, key=lambda one: one.rmse)
    assert (best.rank, best.ridge, best.rmse) == (table.rank, table.ridge, table.validation_rmse)
    assert {one.ridge for one in table.candidates} == {0.0, 0.02, 0.05, 0.1, 0.2}
    assert {one.rank for one in table.candidates} == {2, 5, 10, 20}
    pairs = [(one.rank, one.ridge) for one in table.candidates]
    assert pairs == sorted(pairs)
    assert all(1 <= one.iterations <= 15 for one in table.candidates)
    assert table.training_rmse < table.test_rmse < 0.75 * table.offsets_rmse
    assert (len(table.users), len(table.items)) == (120, 90)
    assert table.user_factors.shape == (120, table.rank)
    assert table.item_factors.shape == (90, table.rank)
    assert table.user_offsets.shape == (120,)
    assert table.item_offsets.shape == (90,)
    assert table.limits == (0.5, 5.0)
    assert 2 < table.mean < 4
    assert table.duplicates == 0
    assert 1 <= table.iterations <= 50
    assert table.converged_reason
    assert table.start_residual < 1e-6
    assert table.parameters == table.rank * 210 + 211  # factors; offsets and mean
    assert set(table.seconds) == {"read", "choose", "fit"}


def test_the_test_error_is_that_of_the_predictions(tmp_path):
    i, j, values = ratings(np.random.default_rng(1))
    cut = len(i) - 500
    order = np.random.default_rng(2).permutation(len(i))
    known, held = order[:cut], order[cut:]
    for name, part in (("known.csv", known), ("test.csv", held)):
        lines = [f"u{i[k]},m{j[k]},{values[k]},0\n" for k in part]
        (tmp_path / name).write_text("userId,movieId,rating,time\n" + "".join(lines))
    table = complete_table(tmp_path / "known.csv", 2, ridge=0.05, test=tmp_path / "test.csv")
    assert (table.n_training, table.n_validation, table.n_test) == (cut, 0, 500)
    assert table.candidates == ()
    assert math.isnan(table.validation_rmse)
    predicted = table.predict([f"u{i[k]}" for k in held], [f"m{j[k]}" for k in held])
    rmse = np.sqrt(np.mean(np.square(predicted - values[held])))
    assert table.test_rmse == pytest.approx(rmse, rel=1e-10)
    predicted = table.predict([f"u{i[k]}" for k in known], [f"m{j[k]}" for k in known])
    rmse = np.sqrt(np.mean(np.square(predicted - values[known])))
    assert table.training_rmse == pytest.approx(rmse, rel=1e-10)


def test_new_users_and_items_of_the_test_are_predicted_by_offsets():
    known = ratings(np.random.default_rng(3))
    test = (["new", "0"], ["1", "unheard"], [4.0, 2.0])
    table = complete_table(known, 2, ridge=0.05, test=test)
    assert table.n_test == 2
    mean, item = table.mean, table.item_offsets[table.items.index("1")]
    user = table.user_offsets[table.users.index("0")]
    np.testing.assert_allclose(
        table.predict(["new", "0", "nobody"], ["1", "unheard", "nothing"]),
        [mean + item, mean + user, mean],
    )
    expected = np.sqrt(((mean + item - 4) ** 2 + (mean + user - 2) ** 2) / 2)
    assert table.test_rmse == pytest.approx(expected, rel=1e-10)
    assert table.offsets_rmse == pytest.approx(expected, rel=1e-10)


def test_without_offsets_and_noise_the_table_is_exact():
    rng = np.random.default_rng(4)
    left, right = rng.standard_normal((60, 3)), rng.standard_normal((50, 3))
    i, j = np.divmod(rng.permutation(3000)[:1500], 50)
    values = np.einsum("ij,ij->i", left[i], right[j])
    table = complete_table((i, j, values), 3, ridge=0.0, offsets=False, max_iterations=500)
    assert table.mean == 0.0
    assert not table.user_offsets.any()
    assert table.test_rmse < 1e-4
    assert table.parameters == 3 * 110
    assert table.converged_reason == "the loss reached its tolerance"


def test_the_division_depends_on_the_seed_only():
    source = ratings(np.random.default_rng(5))
    one, two, other = (complete_table(source, 2, ridge=0.1, seed=seed) for seed in (1, 1, 2))
    assert one.test_rmse == two.test_rmse != other.test_rmse


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rank": 0}, ConfigError, "rank must be a positive integer"),
        ({"ridge": -0.1}, ConfigError, "ridge must be"),
        ({"test_share": 1.0}, ConfigError, "test_share must be"),
        ({"validation_share": 0.0}, ConfigError, "give rank and ridge"),
        ({"ranks": ()}, ConfigError, "at least one candidate"),
        ({"ranks": (0,)}, ConfigError, "each of ranks must be"),
        ({"ridges": (-1.0,)}, ConfigError, "each of ridges must be"),
        ({"seed": -1}, ConfigError, "seed must be"),
        ({"rank": 500}, ConfigError, "rank = 500 exceeds 90, the smaller dimension of the table"),
        ({"rank": 500, "ridge": 0.1}, ConfigError, "rank = 500 exceeds 90"),
        ({"rank": 2, "ridge": 0.1, "test_share": 0.9999}, InputError, "training entries remain"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        complete_table(ratings(np.random.default_rng(6)), **arguments)


def test_candidates_are_reduced_to_the_smaller_dimension():
    rng = np.random.default_rng(7)
    table = complete_table(
        ratings(rng, users=30, items=12, share=0.7), ranks=(2, 40), ridges=(0.1,)
    )
    assert [one.rank for one in table.candidates] == [2, 12]


def test_a_completed_table_prints_a_few_lines():
    i, j, values = ratings(np.random.default_rng(8))
    table = complete_table((np.r_[i, i[0]], np.r_[j, j[0]], np.r_[values, 1.0]), 2, ridge=0.1)
    text = str(table)
    assert text.count("\n") == 2
    assert "120 users, 90 items" in text
    assert "1 entry repeats an earlier pair of user and item" in text
    assert f"rank 2, ridge 0.1: test RMSE {table.test_rmse:.4f}" in text
    assert "631 parameters, offsets and mean included" in text
    assert repr(table) == f"<TableCompletion: 120 x 90, rank 2, test RMSE {table.test_rmse:.4f}>"
    table = complete_table((i, j, values), 2, ridge=0.1, test_share=0.0)
    assert "ridge 0.1: no test entries;" in str(table)
    assert "repeats" not in str(table)


def test_one_name_in_place_of_a_sequence_is_refused():
    table = complete_table(ratings(np.random.default_rng(9)), 2, ridge=0.1)
    with pytest.raises(InputError, match="'12' is one name: give a sequence of users"):
        table.predict("12", "34")


def test_a_table_of_one_item_is_refused():
    with pytest.raises(InputError, match=r"2 user\(s\) and 1 item\(s\): give at least two"):
        complete_table(([1, 2], [1, 1], [3.0, 4.0]), 1, ridge=0.1, test_share=0.0)
    with pytest.raises(InputError, match="source must be a path, or a tuple"):
        complete_table([1, 2, 3])
