"""The atlas: papers, how they cite one another, and the studies behind them, on a local page.

``identity`` says what a paper is called; ``store`` and its neighbours keep papers, comments and
jobs in one SQLite file; ``importers`` grow it; ``graph`` and ``layout`` draw a neighbourhood;
``server`` shows it.
``api``        The atlas as JSON: everything that the page does, a program can do too
``comments``   Comments: threads, edits that never overwrite silently
``database``   Connections to the atlas's SQLite file: a pool, and transactions that queue
``exports``    Papers as BibTeX, CSV and JSON; the whole atlas as one JSON document
``jobs``       Studies and imports run as processes of their own, known to the database
``merge``      Which records are one work, and making one paper of several
``pages``      The pages: whole ones, and the parts of one that change while it is open
``papers``     Papers and citations in the database: save, look up, search
``paths``      Where the atlas keeps its database and the results of its studies
``rendering``  Comments are hostile input: Markdown and TeX to HTML that can only be text
``security``   What stands between the page and the rest of the world, as one ASGI middleware
``seed``       The first start: the essay and the papers around it
``site``       What a request needs, put together once: the store, the jobs, the studies
``studies``    What the atlas knows of the studies: which paper has one, how to run it
``worker``     `python -m kadanoff.atlas.worker OUT -- COMMAND...`
"""
