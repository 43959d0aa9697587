"""The sparsity principle: why is AI hard and physics simple? (Roberts 2021, the essay.)

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``decisions``  what decides each claim, from what was computed
``figures``    the figures, each from what was computed
``page``       what the page says, in order
``study``      the study as the registry finds it
``ising``      spins with sparse Hamiltonians: sampling, learning the couplings
``hypercube``  functions on the hypercube: parities, labelings, learners
"""
