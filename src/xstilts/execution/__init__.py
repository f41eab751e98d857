"""Runs of a plan: checks before anything is written, steps handed to runners, what is done for each kind."""
