"""Every stored table, described once: columns, types, meaning and invariants, one module per stage.

Contracts are checked before a table is written and again when it is read; the same text becomes the column schema in
the UI. When code and contract disagree, the code is the first suspect.
"""
