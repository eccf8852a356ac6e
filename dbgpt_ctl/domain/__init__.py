"""The rules of instances and of the registry that keeps them: pure functions and values; time is an argument."""
