"""The atlas: papers, how they cite one another, and the studies behind them, on a local page.

``identity`` says what a paper is called; ``store`` and its neighbours keep papers, comments and
jobs in one SQLite file; ``importers`` grow it; ``graph`` and ``layout`` draw a neighbourhood;
``server`` shows it.

``api``           The atlas as JSON: everything that the page does, a program can do too
``backup``        The whole atlas as one JSON document, out and in again
``bibliography``  Volume, pages, keywords, notes, files of a paper, as files had them
``comments``      Comments: threads, edits that never overwrite silently
``connect``       What lies between papers: chains of citations, works in common
``database``      Connections to the atlas's SQLite file: a pool, and transactions that queue
``drafts``        An import that is looked at before it is done, and can be undone
``exports``       Papers as BibTeX, RIS, CSL-JSON, CSV and JSON
``growing``       A paper with its citations and references, a list of ids, or a file
``jobs``          Studies and imports run as processes of their own, known to the database
``merge``         Which records are one work, and making one paper of several
``notebook``      A reader's note, tags, collections, reading status and files
``pages``         The pages: whole ones, and the parts of one that change while it is open
``papers``        Papers and citations in the database: save, look up, full-text index
``paths``         Where the atlas keeps its database and the results of its studies
``rendering``     Comments are hostile input: Markdown and TeX to HTML that can only be text
``searching``     Search over all that is known, with operators
``security``      What stands between the page and the rest of the world, as one ASGI middleware
``seed``          The first start: the essay and the papers around it
``similarity``    How near two papers are, and the map by nearness
``site``          What a request needs, put together once: the store, the jobs, the studies
``studies``       What the atlas knows of the studies: which paper has one, how to run it
``timeline``      The map by years
``undoing``       What an import changed, and taking it back
``worker``        `python -m kadanoff.atlas.worker OUT -- COMMAND...`
"""
