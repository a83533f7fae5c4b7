"""Benchmarks kept out of training text."""
