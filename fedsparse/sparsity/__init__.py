"""Masks: how many weights each layer keeps, which ones, how they move, and how they travel."""
