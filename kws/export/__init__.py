"""What leaves the training machine: encoders as graphs that run without torch."""
