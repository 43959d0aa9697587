"""Effective theory of Transformers at initialisation (Dinan, Yaida & Zhang, 2023).

Beside it rank collapse (Noci et al., 2022) and the two exponents of Cowsik et al. (2024).

``networks``   the Transformers, every weight with its own variance
``theory``     symmetric tokens at infinite width: a stack as a map of four numbers
``settings``   the stacks that are looked at
``claims``     what the papers claim, and what we derived, as data
``parts``      what is computed; each part survives a kill
``decisions``  the number that is held against each claim's criterion
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
"""
