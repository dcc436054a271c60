"""The one place with network I/O: MQTT behind a protocol that fakes can stand in for."""
