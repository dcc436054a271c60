"""What runs on a gateway: rounds, the fold, models in and out."""
