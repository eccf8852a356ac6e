"""The destinations of spans: a file, an OpenTelemetry collector, or a class of the user's own."""
