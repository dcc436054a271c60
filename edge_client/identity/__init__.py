"""Who a device is to its fleet: how it gets its certificate, and the next one in time.

A key is made on the device and stays there. What needs `cryptography` runs in processes that end;
the resident agent imports `folder` only.
"""
