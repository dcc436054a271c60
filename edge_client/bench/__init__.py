"""Measuring training on the device: steps, kernels, memory, and the limits of the machine.

What starts workers and what prints imports no numpy; the workers do.
"""
