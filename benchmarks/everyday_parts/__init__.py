"""Parts of the benchmark on everyday data: sources, files, peers, our command, report."""
