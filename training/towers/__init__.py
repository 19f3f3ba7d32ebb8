"""Image and text towers that can be trained, built by name."""
