"""The results of pings as people read them."""
