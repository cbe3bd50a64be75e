"""Settings of data sets: the sections [data] and [graph] of a job."""

from __future__ import annotations

from typing import Annotated, Literal, get_args, get_type_hints

import msgspec

from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.settings import Count, Fraction, NotNegative, Positive, Seed

__all__ = ["GRAPH_FORMATS", "DataSettings", "GraphOptions", "GraphSettings"]

#: Values of data.format whose rows are the nodes of a graph.
GRAPH_FORMATS = ("graph", "power_law")


class DataSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Files and format of the data, vocabulary of texts, split and scaling.

    Paths are relative to ``--data-dir`` (default: the folder of the job file).
    """

    #: name of the data set in reports and in the name of the folder
    name: str = "digits"
    #: auto: by the ending of the file name; images for a folder with image files
    format: Literal[
        "auto",
        "digits",
        "diabetes",
        "idx",
        "cifar10",
        "npz",
        "npy",
        "csv",
        "parquet",
        "arrow",
        "matrix_market",
        "svmlight",
        "hdf5",
        "mat",
        "images",
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
    #: how targets in text are written: plain (1234.5), decimal_point (1,234.5), decimal_comma
    #: (1.234,5); each with a currency or a percent sign. auto: by all of them
    target_numbers: Literal["auto", "plain", "decimal_point", "decimal_comma"] = "auto"
    #: files of the training rows, or of all rows if data.split divides them
    train: tuple[str, ...] = ()
    #: file of the labels, for formats whose rows have none
    train_labels: str = ""
    #: files of the test rows of data.split = own
    test: tuple[str, ...] = ()
    #: file of the labels of the test rows
    test_labels: str = ""
    #: csv, parquet, arrow, text_csv: name of the column of the class or of the target
    label_column: str = ""
    #: csv: field separator; auto: the separator of the header line
    delimiter: str = "auto"
    #: tables: kinds of columns, { age = "number", zip = "category" }, in place of those that their
    #: cells imply. decimal_point, decimal_comma: numbers; day_first, month_first: dates
    columns: dict[
        str,
        Literal[
            "number",
            "boolean",
            "date",
            "category",
            "decimal_point",
            "decimal_comma",
            "day_first",
            "month_first",
            "drop",
        ],
    ] = {}
    #: tables: names of columns that are left out
    drop_columns: tuple[str, ...] = ()
    #: tables: further texts that mean "missing"; always: empty cells, NA, N/A, #N/A, <NA>, NaN,
    #: NaT, null, None, ?, -
    missing: tuple[str, ...] = ()
    #: tables: missing cells get the median of the training rows and a column that marks them, or
    #: are an error
    gaps: Literal["impute", "refuse"] = "impute"
    #: tables: categories as one column per level, or as one column of ranks by frequency; auto:
    #: one per level up to one_hot_limit levels
    categories: Literal["auto", "one_hot", "ordinal"] = "auto"
    #: tables: largest number of levels with one column for each, for data.categories = auto
    one_hot_limit: Count = 30
    #: npz, hdf5, mat: name of the array of rows; empty: usual names are recognised (x, X_train)
    features_key: str = ""
    #: npz, hdf5, mat: name of the array of labels, as obs/cell_type for a column of an AnnData
    #: file; empty: usual names are recognised (y, y_train)
    labels_key: str = ""
    #: the array of test rows in the same file; empty: recognised beside training rows
    test_features_key: str = ""
    #: the array of test labels in the same file; empty: recognised beside training labels
    test_labels_key: str = ""
    #: images: WIDTHxHEIGHT to resize all images, or native: all images must have one size
    image_size: str = "native"
    #: images: grey (luminance), rgb, or auto: as the first training image
    image_mode: Literal["auto", "grey", "rgb"] = "auto"
    #: svmlight: number of the first feature; auto: 0 if any row has a feature 0, else 1. Bare
    #: triplets: number of the first row and column; auto: 1
    index_base: Literal["auto", 0, 1] = "auto"
    #: svmlight, bare triplets: number of features; 0: the largest index
    n_features: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: auto: own with test files, else stratified for classes and random for regression;
    #: own: training and test files; stratified, random: counter-based, for any size; sklearn: the
    #: rows of scikit-learn's train_test_split(test_size, random_state=seed)
    split: Literal["auto", "own", "stratified", "random", "sklearn"] = "auto"
    #: share of the rows that become test rows
    test_fraction: Fraction = 0.2
    #: seed of the split
    split_seed: Seed = 0
    #: none; divide: by data.divisor; minmax: each feature to [0, 1]; standard: mean 0 and
    #: variance 1; from the training rows. auto: standard for tables with categories, dates or
    #: missing cells, else none
    scaling: Literal["auto", "none", "divide", "minmax", "standard"] = "auto"
    #: divisor of data.scaling = divide
    divisor: float = 255.0
    #: text_csv: name of the column of the text
    text_column: str = ""
    #: text: headers of mail and news
    headers: Literal["keep", "remove"] = "keep"
    #: text: quoted lines of mail and news, and the lines that introduce them
    quoting: Literal["keep", "remove"] = "keep"
    #: text: encoding of the files
    encoding: str = "utf-8"
    #: text: invalid bytes become U+FFFD and are counted, or are an error
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
        Edges from a graph node to itself.
    components : {"all", "largest"}
        All connected components, or the largest one alone.
    weights : {"auto", "use", "ignore"}
        auto: the weights of the file, if it has any; a third column of an edge list that may hold
        times is refused. use: whatever it holds.
    negative_weights : {"refuse", "keep"}
        Only the adjacency operator takes negative weights; the others need degrees.
    ids : {"auto", "numbers", "words"}
        Node ids of an edge list. auto: words if the first line of data begins with two words.
    header : {"auto", "none", "names", "counts"}
        First line of an edge list: an edge, names of columns, or counts of nodes and edges. auto:
        names if it has no numbers; a line that may hold counts is refused.
    """

    directed: Literal["either", "symmetrise", "sum", "mutual"] = "either"
    duplicates: Literal["sum", "once"] = "sum"
    loops: Literal["drop", "keep"] = "drop"
    components: Literal["all", "largest"] = "all"
    weights: Literal["auto", "use", "ignore"] = "auto"
    negative_weights: Literal["refuse", "keep"] = "refuse"
    ids: Literal["auto", "numbers", "words"] = "auto"
    header: Literal["auto", "none", "names", "counts"] = "auto"

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
    #: power_law: number of graph nodes
    n_nodes: Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)] = 0
    #: power_law: number of sampled edges
    n_edges: Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)] = 0
    #: power_law: exponent of the degrees
    exponent: float = 2.5
    #: power_law: seed of the edges
    seed: Seed = 0
    #: steps of smoothing: averages of the attributes over the neighbours, for every method
    smoothing: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    #: operator of the averages
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
