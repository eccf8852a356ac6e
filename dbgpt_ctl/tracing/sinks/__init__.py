"""Where spans go: a file, an OpenTelemetry collector, or a class of your own."""
