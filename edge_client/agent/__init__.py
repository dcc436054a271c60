"""The resident process: MQTT, store and policy; it reaches no numpy by any path."""
