"""One module per verb: it checks its arguments, takes the client, calls it once and prints the answer."""
