"""The house style, which everyone who draws a figure or writes a number shares.

``numbers``   numbers with their errors, percentages, sizes, as people read them
``terminal``  what a terminal shows, in plain ASCII where it has nothing else
``progress``  bars and waiting words on what takes a while; progress as lines of JSON
``json``      the one envelope of every ``--json``: schema, versions, seed
``figures``   theory is a line, measurement is points with error bars; SVG that follows the theme
``html``      the building blocks of a page that opens offline: sections, cards, tables
``markup``    Markdown and formulas (MathML) as HTML
"""
