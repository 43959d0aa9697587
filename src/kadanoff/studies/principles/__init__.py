"""The principles of deep learning theory: criticality, L/n, the NTK, representation learning.

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``page``       what the page says, in order: computes, decides, draws
``study``      the study as the registry finds it
"""
