"""Finds the files of a task and reads them as rows."""
