"""The budget: which level a device can afford, from its means, and why (docs/budget.md)."""
