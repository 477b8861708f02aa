"""What the generated documents are made of."""
