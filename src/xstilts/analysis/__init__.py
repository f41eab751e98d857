"""Views of score and prediction rows: scores of resampled examples, rank correlation."""
