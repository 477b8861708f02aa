"""`make bench`: what a probe costs, how true round trips are, and what ten thousand targets take, beside the peers."""
