"""The page of `audit/report`: one self-contained HTML file about a domain's adapter, for people who audit or decide.

Tables go in, one text comes out, the same for the same tables; only `read.py` opens files of the lake. Other people's
text reaches the page only through the template's escaping, or as JSON that holds no markup.
"""
