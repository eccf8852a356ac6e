"""The parts of a controller that its endpoints share: the registry, its checks, and the tasks beside the requests."""
