"""One thread decides what is due; threads and node hosts do it."""
