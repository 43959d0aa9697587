"""The atlas: papers, how they cite one another, and the studies behind them, on a local page.

``identity`` says what a paper is called; ``store`` and its neighbours keep papers, comments and
jobs in one SQLite file; ``importers`` grow it; ``graph`` and ``layout`` draw a neighbourhood;
``server`` shows it.
"""
