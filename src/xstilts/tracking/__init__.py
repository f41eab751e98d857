"""Trainings shown by other programs: the protocol of a tracker, the built-in ones, and the replay of logs."""
