"""A board's limits around real processes: memory, processor, link. Imports no numpy.

Begin at `edge_client.emulation.place.confine`; docs/emulation.md has the whole.
"""
