"""The principles of deep learning theory: criticality, L/n, the NTK, representation learning.

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``book``       what the book derives of aspect ratios, residual nets, two inputs and inference
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
"""
