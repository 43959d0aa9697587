"""Lazy neurons: trained Transformers fire few of their hidden units (Li et al., 2022).

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
``toy``        small models and data whose activations are counted
``runs``       one training run per claim and seed
"""
