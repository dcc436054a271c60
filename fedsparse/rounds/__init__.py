"""The two state machines of a round, sans-I/O: events in, effects out, time an argument."""
