"""What a user asks for, and the Python interface that carries it out."""
