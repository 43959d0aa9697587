"""Feynman diagrams for the finite-width NTK (Guillen, Misof & Gerken, 2025).

``rules``      diagrams of the metric and the NTK at one input: generated, evaluated
``claims``     what the paper claims, with criteria
``parts``      what is computed
``decisions``  the numbers held against the criteria
``figures``    the figures of the page, the diagrams among them
``page``       what the page says
``study``      the study as the registry finds it
"""
