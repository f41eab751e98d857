"""Views of score and prediction rows: means, selected runs, scores of resampled examples, rank correlation."""
