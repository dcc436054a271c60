"""Measuring the device: its memory and what it is. Imports no numpy."""
