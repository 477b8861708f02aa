"""The ledger: what happened, on the disk before anything shows it, and there again after a restart."""

from prober.ledger.batch import Encoded, Heartbeat
from prober.ledger.files import FILE_NAME, LedgerError
from prober.ledger.ledger import Ledger
from prober.ledger.notes import BadNote, Note, make_note
from prober.ledger.read import cursor_after, last_word, read_gaps, read_last_word, read_outages
from prober.ledger.storage import Absence, Restored
from prober.ledger.totals import Totals

__all__ = [
    "FILE_NAME",
    "Absence",
    "BadNote",
    "Encoded",
    "Heartbeat",
    "Ledger",
    "LedgerError",
    "Note",
    "Restored",
    "Totals",
    "cursor_after",
    "last_word",
    "make_note",
    "read_gaps",
    "read_last_word",
    "read_outages",
]
