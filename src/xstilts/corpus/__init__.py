"""Raw text for masked language modelling: dumps, tables and files to one sentence a line."""
