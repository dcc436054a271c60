"""What the doctors of device and gateway share; nothing here changes what it looks at."""
