"""The hardware and what runs on it: device, processes that train together, nearest neighbours."""
