"""`edge-client doctor`: what is wrong with a device, and what to do about it."""
