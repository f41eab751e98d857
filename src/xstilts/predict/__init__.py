"""What a trained step says to an example."""
