"""The trainer: a process that lives for one task, so that its memory goes back to the board."""
