"""`fedsparse identity`, and the brokers of a fleet."""
