"""Pings: asks workers themselves whether they answer, because a worker sends heartbeats on while its model is dead."""
