"""The run folder on the disk: steps, rows of scores and predictions, which encoders stay."""
