"""Federated training without a network: hundreds of virtual clients on one machine."""
