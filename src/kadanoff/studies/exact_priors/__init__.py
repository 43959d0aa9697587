"""Exact priors of finite networks (Zavatone-Veth & Pehlevan, 2021).

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
"""
