"""Encoders and heads, from text to forward passes."""
