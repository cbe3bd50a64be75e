"""Co-occurrence counts of terms and features, and their mutual information."""
