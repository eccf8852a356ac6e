"""What people type: references, durations, filters, and suggestions when nothing matches."""
