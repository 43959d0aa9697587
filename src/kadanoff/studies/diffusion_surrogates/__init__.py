"""Deep-learning surrogates for the diffusion equation (Toledo-Marín et al. 2021).

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
``diffusion``  exact solvers, and the networks that stand in for them
"""
