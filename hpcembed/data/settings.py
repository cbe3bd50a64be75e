"""Settings of data sets: the sections [data] and [graph] of a job."""

from __future__ import annotations

from typing import Annotated, Literal, get_args, get_type_hints

import msgspec

from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.settings import Fraction, NotNegative, Positive, Seed

__all__ = ["GRAPH_FORMATS", "DataSettings", "GraphOptions", "GraphSettings"]

#: Values of data.format whose rows are the nodes of a graph.
GRAPH_FORMATS = ("graph", "power_law")


class DataSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Files and format of the data, vocabulary of texts, split and scaling.

    Paths are relative to ``--data-dir`` (default: the folder of the job file).
    """

    name: str = "digits"
    #: auto: by the ending of the file name
    format: Literal[
        "auto",
        "digits",
        "diabetes",
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
    #: meaning of the labels. auto: text and at most 20 different numbers are classes; more numbers
    #: are targets of a regression if some are not integers; integers are classes if there are at
    #: most 1,000 of them with 20 rows each on average, and otherwise this key must be set
    task: Literal["auto", "classification", "regression"] = "auto"
    train: tuple[str, ...] = ()
    train_labels: str = ""
    test: tuple[str, ...] = ()
    test_labels: str = ""
    #: csv, text_csv: name of the column of the class or of the target
    label_column: str = ""
    #: csv: field separator; auto: the separator of the header line
    delimiter: str = "auto"
    #: npz, hdf5: names of the arrays
    features_key: str = "x"
    labels_key: str = "y"
    #: svmlight, bare triplets: number of features; 0: the largest index
    n_features: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: auto: own with test files, else stratified for classes and random for regression;
    #: own: training and test files; stratified, random: counter-based, for any size; sklearn: the
    #: rows of scikit-learn's train_test_split(test_size, random_state=seed)
    split: Literal["auto", "own", "stratified", "random", "sklearn"] = "auto"
    test_fraction: Fraction = 0.2
    split_seed: Seed = 0
    scaling: Literal["none", "divide", "minmax", "standard"] = "none"
    divisor: float = 255.0
    #: text_csv: name of the column of the text
    text_column: str = ""
    #: text: headers of mail and news; quoted lines and the lines that introduce them
    headers: Literal["keep", "remove"] = "keep"
    quoting: Literal["keep", "remove"] = "keep"
    #: text: encoding of the files; invalid bytes become U+FFFD and are counted, or are an error
    encoding: str = "utf-8"
    encoding_errors: Literal["replace", "refuse"] = "replace"
    #: text: weight of a term in a document: occurrences times idf, occurrences, or 1
    weighting: Literal["tfidf", "counts", "binary"] = "tfidf"
    #: 1 + log(occurrences) in place of the occurrences
    sublinear_tf: bool = False
    #: idf as if one additional document contained every term
    smooth_idf: bool = True
    #: norm of the row of every document
    norm: Literal["l2", "none"] = "l2"
    #: classes: multiply by the relevance of a term for the classes. It is computed from the labels
    #: of all training documents, which include the validation rows of a classifier: the validation
    #: accuracy is then too high
    relevance: Literal["none", "classes"] = "none"
    #: smallest number of training documents that contain a term; below 1: their share
    min_df: NotNegative = 1.0
    #: largest share of training documents that contain a term; above 1: their number
    max_df: Positive = 1.0
    #: number of terms, those with most occurrences; 0: all
    max_features: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: storage of the rows: dense (double), aij (sparse), shell (as read; converted by blocks)
    storage: Literal["auto", "dense", "aij", "shell"] = "auto"


class GraphOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the edges of a file become a symmetric adjacency matrix.

    Attributes
    ----------
    directed : {"either", "symmetrise", "sum", "mutual"}
        One weight for the two directions of an edge: the larger weight (right for lists of
        undirected edges too), the mean, the sum, or the smaller weight of edges that go both ways.
    duplicates : {"sum", "once"}
        Weights of repeated edges of the same direction: their sum, or the largest.
    loops : {"drop", "keep"}
    components : {"all", "largest"}
    weights : {"auto", "ignore"}
        auto: the weights of the file, if it has any.
    negative_weights : {"refuse", "keep"}
        Only the adjacency operator takes negative weights; the others need degrees.
    """

    directed: Literal["either", "symmetrise", "sum", "mutual"] = "either"
    duplicates: Literal["sum", "once"] = "sum"
    loops: Literal["drop", "keep"] = "drop"
    components: Literal["all", "largest"] = "all"
    weights: Literal["auto", "ignore"] = "auto"
    negative_weights: Literal["refuse", "keep"] = "refuse"

    def check(self) -> None:
        """Raise ConfigError unless every option is one of its choices."""
        for name, choices in get_type_hints(GraphOptions).items():
            check_choice(name, getattr(self, name), get_args(choices))


class GraphSettings(GraphOptions, frozen=True, kw_only=True):
    """Graphs: options of reading, smoothing of attributes, operator of the embedding.

    For ``data.format = "graph"`` (one file, and ``data.train_labels`` with node ids and labels) and
    ``"power_law"`` (generated).
    """

    #: format of the file; auto: by its ending; edges: one line per edge
    format: Literal["auto", "edges", "matrix_market", "npz"] = "auto"
    #: power_law: nodes, sampled edges, exponent of the degrees, seed
    n_nodes: Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)] = 0
    n_edges: Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)] = 0
    exponent: float = 2.5
    seed: Seed = 0
    #: steps of smoothing: averages of the attributes over the neighbours, for every method
    smoothing: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    smoothing_operator: Literal["random_walk", "normalized"] = "random_walk"
    #: method spectral: operator of the eigenvectors
    operator: Literal["normalized", "random_walk", "laplacian", "modularity", "adjacency"] = (
        "normalized"
    )
    #: regularisation of the normalised operators: a number that is added to all degrees, or mean
    tau: str | float = "mean"
    #: method spectral: number of principal components of the attributes, the first of the
    #: n_components
    attribute_components: Annotated[int, msgspec.Meta(ge=0)] = 0
