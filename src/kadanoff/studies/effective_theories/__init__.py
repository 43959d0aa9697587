"""Structures of neural network effective theories (Banta, Cai, Craig & Zhang, 2023).

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
``agreement``  diagrams beside every other route to the same number
``measured``   connected correlators of networks that were really drawn
"""
