"""X-STILTs: one encoder, English labels, forty languages."""
