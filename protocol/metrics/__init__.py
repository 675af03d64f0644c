"""What opened sums say: score histograms and the answers of a query."""
