"""What every result can do: be kept in a file, become a table, show itself in a notebook.

``codec``   Results as plain trees and arrays, and back, without pickle
``store``   ``save`` and ``load``: one ``.npz`` or ``.json`` file, with versions
``table``   Rows and columns: data frames, HTML
``base``    :class:`Kept` and :class:`Result`, which results inherit from
"""

from kadanoff.results.base import Kept, Result
from kadanoff.results.store import load, save
from kadanoff.results.table import Table, components

__all__ = ["Kept", "Result", "Table", "components", "load", "save"]
