"""Makes raw text for masked language modelling, one sentence per line, from dumps, tables and text files."""
