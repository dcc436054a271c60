"""`fedsparse profiles`: the boards that are known, and a profile of one that was measured."""
