"""`fedsparse doctor`: what is wrong with a gateway, and what to do about it."""
