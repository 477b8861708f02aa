"""What several vantages saw, as one record: outages fused with their bounds, peninsulas, islands, availability."""
