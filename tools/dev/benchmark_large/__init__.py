"""Measures what large images cost, and how good predictions on them are, by the ways to predict."""
