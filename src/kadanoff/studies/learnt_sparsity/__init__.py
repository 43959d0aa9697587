"""How sparse is the function a network has learnt? Spectra of trained networks beside random ones.

``claims``     what is asked, with criteria
``parts``      what is computed: one training a part
``decisions``  the numbers held against the criteria
``figures``    the figures of the page
``page``       what the page says
``study``      the study as the registry finds it
"""
