"""What the commands print: data on standard output, messages on standard error."""
