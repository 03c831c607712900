"""The page of `audit/report`: one self-contained HTML file about a domain's adapter, for people who audit or decide.

Tables go in, one text comes out, the same for the same tables; only `material.py` opens files of the lake. Text of
others reaches the page only through the template's escaping, or as JSON that holds no markup.
"""
