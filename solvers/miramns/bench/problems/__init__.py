"""Problems of the eigensolver benchmark: generated operators, and matrices from files."""
