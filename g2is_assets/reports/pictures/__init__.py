"""Pictures for people, by what they show: plain tables in, PNG bytes out, so that any version can be drawn again.

No files are read here and no text of a row is drawn, only names and numbers: a picture goes where erasure of a row does
not reach. Colours are those that people with colour blindness tell apart.
"""
