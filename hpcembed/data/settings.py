"""Settings of the readers: the sections [data] and [graph] of a job, as arguments of this room."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hpcembed.runtime.settings import Fraction, NotNegative, Positive, Seed

__all__ = ["GRAPH_FORMATS", "DataSettings", "GraphSettings"]

#: Values of data.format whose rows are the nodes of a graph.
GRAPH_FORMATS = ("graph", "power_law")


class DataSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the data is, in which format, how it is split and scaled.

    Paths are relative to ``--data-dir`` (default: the folder of the job file).
    """

    name: str = "digits"
    #: auto: by the file name's ending
    format: Literal[
        "auto",
        "digits",
        "idx",
        "cifar10",
        "npz",
        "npy",
        "csv",
        "matrix_market",
        "svmlight",
        "hdf5",
        "text_folder",
        "text_tar",
        "text_lines",
        "text_csv",
        "graph",
        "power_law",
    ] = "auto"
    train: tuple[str, ...] = ()
    train_labels: str = ""
    test: tuple[str, ...] = ()
    test_labels: str = ""
    #: csv, text_csv: name of the column that holds the class
    label_column: str = ""
    #: csv: field separator; auto takes the one that the header line uses
    delimiter: str = "auto"
    #: npz, hdf5: names of the arrays
    features_key: str = "x"
    labels_key: str = "y"
    #: svmlight, bare triplets: number of features, 0 = the largest index found
    n_features: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: own: the files' split; stratified, random: counter-based, any scale; sklearn: the rows of
    #: scikit-learn's train_test_split(test_size, random_state=seed)
    split: Literal["auto", "own", "stratified", "random", "sklearn"] = "auto"
    test_fraction: Fraction = 0.2
    split_seed: Seed = 0
    scaling: Literal["none", "divide", "minmax", "standard"] = "none"
    divisor: float = 255.0
    #: text_csv: name of the column that holds the text
    text_column: str = ""
    #: text: mail and news headers; quoted lines and those that announce them
    headers: Literal["keep", "remove"] = "keep"
    quoting: Literal["keep", "remove"] = "keep"
    #: text: of the files; what is not of it is replaced by U+FFFD and counted, or refused
    encoding: str = "utf-8"
    encoding_errors: Literal["replace", "refuse"] = "replace"
    #: text: what a document has for a term: its occurrences, times idf or not, or 1
    weighting: Literal["tfidf", "counts", "binary"] = "tfidf"
    #: 1 + log of the occurrences in their place
    sublinear_tf: bool = False
    #: idf as if one more document had every term
    smooth_idf: bool = True
    #: length of every document's row
    norm: Literal["l2", "none"] = "l2"
    #: classes: times what a term says of the classes, by the labels of all training documents:
    #: those that a classifier holds out for validation too, whose accuracy is then too high
    relevance: Literal["none", "classes"] = "none"
    #: training documents that a term must be in: a number from 1 on, below that a share
    min_df: NotNegative = 1.0
    #: and may be in: a share up to 1, above that a number
    max_df: Positive = 1.0
    #: keep that many terms with the most occurrences, 0 = all
    max_features: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: how the rows are held: dense (double), aij (sparse), shell (as read; converted per block)
    storage: Literal["auto", "dense", "aij", "shell"] = "auto"


class GraphSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Graphs: what their lines mean, what becomes of attributes, which operator places the nodes.

    For ``data.format = "graph"`` (one file, or ``data.train_labels`` with node ids and labels) and
    ``"power_law"`` (made on the spot).
    """

    #: of the file: auto by its ending, edges: a line per edge
    format: Literal["auto", "edges", "matrix_market", "npz"] = "auto"
    #: two directions of an edge: the larger weight, their mean, their sum, or both there
    directed: Literal["either", "symmetrise", "sum", "mutual"] = "either"
    #: lines of the same edge in the same direction: weights added, or the largest kept
    duplicates: Literal["sum", "once"] = "sum"
    loops: Literal["drop", "keep"] = "drop"
    components: Literal["all", "largest"] = "all"
    weights: Literal["auto", "ignore"] = "auto"
    negative_weights: Literal["refuse", "keep"] = "refuse"
    #: power_law: nodes, edges drawn, exponent of the degrees, seed
    n_nodes: Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)] = 0
    n_edges: Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)] = 0
    exponent: float = 2.5
    seed: Seed = 0
    #: times that attributes are averaged over the neighbours, for every method
    smoothing: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    smoothing_operator: Literal["random_walk", "normalized"] = "random_walk"
    #: method spectral: whose eigenvectors
    operator: Literal["normalized", "random_walk", "laplacian", "modularity", "adjacency"] = (
        "normalized"
    )
    #: regularisation of the normalised operators: a degree added to all, or mean
    tau: str | float = "mean"
    #: method spectral: how many of the n_components are principal components of the attributes,
    #: which come first
    attribute_components: Annotated[int, msgspec.Meta(ge=0)] = 0
