"""Diagnosis of a cluster: the facts, the rules that judge them, and what they find. No I/O."""
