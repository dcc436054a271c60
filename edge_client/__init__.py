"""What runs on a device: a resident agent, and a trainer for each task."""
