"""The documents, and what writes those that the code knows best (`generate.py`)."""
