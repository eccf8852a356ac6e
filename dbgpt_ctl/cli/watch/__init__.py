"""What goes on until somebody ends it: following changes, as lines or as a screen."""
