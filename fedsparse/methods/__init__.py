"""The federated methods as pure functions of (server state, updates)."""
