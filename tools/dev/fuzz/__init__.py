"""Hostile and damaged input, generated from a seed, against the promises of docs/safety.md."""
