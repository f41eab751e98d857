"""Runs a plan: checks its inputs, schedules its steps on runners, and does each kind of step."""
