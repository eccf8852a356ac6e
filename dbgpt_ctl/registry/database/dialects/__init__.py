"""The databases that a registry can use: one module for each."""
