"""The endpoints: what a request asks for, the call of the registry, and what the answer looks like."""
