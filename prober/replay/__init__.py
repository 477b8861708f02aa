"""The agent on a virtual clock over a scripted world: the real schedule, judge and ledger, without a packet.

    clock.py     the clock whose time jumps            agent.py     one vantage's agent, killed and started again
    truth.py     what is true, and what a probe sees   run.py       all vantages of a world
    ledger.py    the ledger, written in step           score.py     what the agents said, against the truth
    timeline.py  what happened, drawn in the terminal      fused.py     what all vantages saw together
    scrape.py    what Prometheus would scrape of an agent   rules.py     what the shipped rules would record of that
    spool.py     samples, mostly in a file                  openmetrics.py, export.py  all of it as text

The world's file is read by `prober.config.worlds`.
"""
