"""What the transport costs and bears: bytes, waiting, memory, many clients, broken frames."""
