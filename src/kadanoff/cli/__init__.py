"""The command line: one file a command, each thin (parse, call the library, print).

``app``              `kadanoff`: finds the command and turns errors into exit codes
``atlas``            `kadanoff atlas`: the map of papers, on a local page
``cite``             `kadanoff cite`: BibTeX of the software and of the works it rests on
``compare``          `kadanoff compare`: predictions of the flow beside a simulated ensemble
``critical``         `kadanoff critical`: the critical initialisation of an activation
``diagnose``         `kadanoff diagnose`: a model and data in, a verdict out
``doctor``           `kadanoff doctor`: what is installed, what is missing, what it would give
``ensemble``         `kadanoff ensemble`: statistics of random networks by simulation
``flow``             `kadanoff flow`: the statistics of a random network, layer by layer
``kernel``           `kadanoff kernel`: NNGP and NTK Gram matrices of a data set
``options``          Options that several commands share
``output``           Where a command's result goes: tables for people
``panels``           Options that belong together: one parameter of a command
``predict``          `kadanoff predict`: what the trained networks will say, before any is trained
``prediction``       What `kadanoff predict` reports of one network: outputs, errors, speed
``prediction_view``  `kadanoff predict` in the terminal
``prepared``         What diagnose, tune and sparsity do first
``simulation``       What ensemble and compare share: the network they simulate
``sparsity``         `kadanoff sparsity`: which neurons fire
``study``            `kadanoff study`: the papers around the theory, run again
``target``           From `path/to/file.py:factory` to a model
``transfer``         `kadanoff transfer`
``tune``             `kadanoff tune`: critical weights for a model
``meta``             `kadanoff diagnose --meta`: a factory and data in, a prediction out
``watch``            `kadanoff watch`: train a model, watch it, draw the film
"""
