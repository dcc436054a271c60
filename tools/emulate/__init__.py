"""`fedsparse emulate`: a fleet of real clients, each under the limits of its board."""
