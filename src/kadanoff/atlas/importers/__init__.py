"""What brings papers: three services on the network, and the formats of libraries.

``client``           Fetching politely: cache, back-off as the server asks, bounded answers
``openalex``         OpenAlex: pure parsers, and pages of citing and referenced works
``semanticscholar``  Semantic Scholar Graph API v1: pure parsers
``arxiv``            arXiv: titles and abstracts of preprints
``files``            Library files: which format a text is in, and reading one from disk
``bibtex``           BibTeX and BibLaTeX
``ris``              RIS
``csl``              CSL-JSON and Zotero's JSON
``parsed``           What a file held, and what of it could not be read
``tex``              Accents and letters to Unicode and back; formulas stay TeX
"""
