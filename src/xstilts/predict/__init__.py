"""Shows the predictions of a trained step."""
