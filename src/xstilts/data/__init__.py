"""From the files of a task to rows: where files are found, and how each kind of file is read."""
