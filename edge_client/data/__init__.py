"""Where a device's samples come from. `header` and `holdout` import no numpy; `samples` does."""
