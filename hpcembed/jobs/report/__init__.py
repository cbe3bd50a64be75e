"""What a run leaves: its folder, run.json, tables and figures. Plain data in; rank 0 only."""

from hpcembed.jobs.report.figures import draw_convergence, draw_spectrum, draw_training
from hpcembed.jobs.report.graph_figures import draw_gaps, draw_graph
from hpcembed.jobs.report.run_folder import OutputError, RunFolder
from hpcembed.jobs.report.run_json import (
    ClassifierRecord,
    DatasetRecord,
    EmbeddingRecord,
    ReferenceRecord,
    RunRecord,
    StageSeconds,
    classifier_record,
)
from hpcembed.jobs.report.study_figures import AccuracyCurve, draw_accuracy, draw_rivals
from hpcembed.jobs.report.study_pictures import (
    Mark,
    TimeCurve,
    draw_components,
    draw_confusion,
    draw_pareto,
    draw_scatter,
    draw_times,
    pareto_front,
)
from hpcembed.jobs.report.study_tables import markdown_table, percent, points
from hpcembed.jobs.report.tables import (
    ResultRow,
    certification_line,
    result_row,
    result_table,
    seconds_line,
)
from hpcembed.jobs.report.words import Neighbours, nearest_words, word_columns

__all__ = [
    "AccuracyCurve",
    "ClassifierRecord",
    "DatasetRecord",
    "EmbeddingRecord",
    "Mark",
    "Neighbours",
    "OutputError",
    "ReferenceRecord",
    "ResultRow",
    "RunFolder",
    "RunRecord",
    "StageSeconds",
    "TimeCurve",
    "certification_line",
    "classifier_record",
    "draw_accuracy",
    "draw_components",
    "draw_confusion",
    "draw_convergence",
    "draw_gaps",
    "draw_graph",
    "draw_pareto",
    "draw_rivals",
    "draw_scatter",
    "draw_spectrum",
    "draw_times",
    "draw_training",
    "markdown_table",
    "nearest_words",
    "pareto_front",
    "percent",
    "points",
    "result_row",
    "result_table",
    "seconds_line",
    "word_columns",
]
