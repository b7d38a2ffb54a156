"""Benchmarks: each module measures one row and prints it; they are not tests."""
