"""Jobs: configuration, runs, studies, compression, prediction, export and reports."""
