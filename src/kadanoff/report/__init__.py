"""Reports: one result, three renderers (terminal, HTML, JSON) and one house style of figures."""
