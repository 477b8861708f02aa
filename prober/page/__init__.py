"""The status page: what the agent knows, for people; feeds and badges of the same facts.

source.py    what is shown, and the protocol of where it is from   agent.py     from a running agent
ledger.py    from a ledger alone                                   rings.py     the last day's round trips and loss
timeline.py  pure: outages and gaps as a strip                     words.py     verdicts, dates and names as text
views.py, detail.py  what the templates are given                  feeds.py     Atom, iCalendar, CSV, badges
site.py      paths to documents: in a thread, cached, bounded      command.py   `prober page`
"""
