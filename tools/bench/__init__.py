"""Benches: they measure what the README claims."""
