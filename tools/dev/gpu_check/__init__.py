"""What a machine with a GPU is asked once: is all of it right there, and how fast is it?"""
