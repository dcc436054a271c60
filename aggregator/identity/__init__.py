"""Who may take part in a fleet: its own authority, its broker's rules, and how both are kept."""
