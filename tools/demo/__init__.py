"""The demo: real processes on one machine, followed live, and reported."""
