"""`fedsparse bench devices`: what devices choose, predict and take, on boards with real limits."""
