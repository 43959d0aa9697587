"""The edge of chaos, in depth and in time (Grosvenor & Jefferson 2021; Poole; Schoenholz).

``claims``     what the paper claims, as data
``parts``      what is computed; each part survives a kill
``page``       what the page says, in order: computes, decides, draws
``study``      the study as the registry finds it
``chaos``      recurrent networks, tangent growth, trainability
``page_networks``  The second half of the page: recurrent networks, loops, training
"""
