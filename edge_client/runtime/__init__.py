"""Training engines behind one protocol, and what each will cost; importing this imports neither."""
