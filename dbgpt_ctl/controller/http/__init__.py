"""The HTTP server: the socket, the serving process, the bounds of the protocol."""
