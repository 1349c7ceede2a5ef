"""Predictions: closed forms, and small problems for which there are some."""
