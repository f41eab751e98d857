"""Files, locks, YAML, progress and typed models that know nothing of the field."""
