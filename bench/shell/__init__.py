"""What the server adds around a model: the parent with a worker that has every token
ready at once.
"""
