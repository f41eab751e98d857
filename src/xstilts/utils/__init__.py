"""Files, locks, YAML, progress, samples of streams and typed models that know nothing of the field."""
