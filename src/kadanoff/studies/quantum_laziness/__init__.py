"""Laziness, barren plateaus and noise in variational circuits (Liu, Lin & Jiang 2022).

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
``quantum``    circuits, their kernels and their training
"""
